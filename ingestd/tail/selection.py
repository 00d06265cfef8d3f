"""What h5py takes between brackets, held to the rows that are committed."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingestd.model import counted


@dataclass(frozen=True, slots=True)
class Selection:
    """What to ask h5py for, and what to take of that along axis 0 (None: all of it)."""

    stored: tuple[Any, ...]
    then: np.ndarray | None = None

    def of(self, rows: Any) -> Any:
        """What was asked for, of what h5py gave for ``stored``."""
        return rows if self.then is None else rows[self.then]


def selected(selection: Any, end: int, row_ndim: int) -> Selection:
    """``selection`` of ``end`` rows with ``row_ndim`` axes each.

    As of h5py, but that indices of rows may be in any order, repeat, and be negative.

    :raises IndexError: it reaches beyond the rows.
    :raises ValueError: a step is below 1.
    """
    given = selection if isinstance(selection, tuple) else (selection,)
    fields = tuple(each for each in given if isinstance(each, str))
    axes = [each for each in given if not isinstance(each, str)]
    if any(isinstance(each, np.ndarray) and each.dtype == bool and each.ndim > 1 for each in axes):
        return _masked(axes, fields, end)
    if not axes or axes[0] is Ellipsis:
        rest = axes[1:]
        axes = rest if len(rest) > row_ndim else [slice(None), Ellipsis, *rest]
    rows, *others = axes
    if isinstance(rows, slice):
        first, stop, step = rows.indices(end)
        if step < 1:
            raise ValueError(f"the step is {step}, must be 1 or more")
        return Selection((slice(first, max(first, stop), step), *others, *fields))
    if isinstance(rows, (list, np.ndarray)) and np.ndim(rows):
        wanted = _indices(np.asarray(rows), end)
        stored, then = np.unique(wanted, return_inverse=True)
        in_order = len(stored) == len(wanted) and bool((stored == wanted).all())
        return Selection((stored, *others, *fields), None if in_order else then)
    row = operator.index(rows)
    return Selection((int(_checked(np.array([row]), end)[0]), *others, *fields))


def _masked(axes: list[Any], fields: tuple[str, ...], end: int) -> Selection:
    if len(axes) > 1 or len(axes[0]) != end:
        raise IndexError(f"a mask must have the shape of all rows; there are {end}")
    (rows,) = np.nonzero(axes[0].any(axis=tuple(range(1, axes[0].ndim))))
    reach = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
    return Selection((reach, *fields), axes[0][reach])


def _indices(rows: np.ndarray, end: int) -> np.ndarray:
    if rows.dtype == bool:
        if rows.shape != (end,):
            raise IndexError(f"a mask of rows is {rows.shape}, must be ({end},)")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise TypeError(f"rows are chosen by {rows.dtype} {rows.shape}, must be integers (n,)")
    return _checked(rows.astype(np.int64), end)


def _checked(rows: np.ndarray, end: int) -> np.ndarray:
    wrong = rows[(rows < -end) | (rows >= end)]
    if len(wrong):
        raise IndexError(f"row {wrong[0]} is out of range of {counted(end, 'committed row')}")
    return np.where(rows < 0, rows + end, rows)
