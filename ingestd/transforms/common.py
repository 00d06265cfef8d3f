"""What the ready-made transforms share: which arrays they change, and what their axes are called.

Axis 0 of an array holds the rows, always: what is done to one row never depends on another, so
that slab by slab gives what the whole file gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ingestd.errors import BadFile

Arrays = Mapping[str, np.ndarray]
Captures = Mapping[str, str | int]
Members = str | Sequence[str] | None

_AXES = "tzyx"

F = TypeVar("F", bound=Callable[..., Any])


def slabwise(function: F) -> F:
    """Mark a transform as one that may be given a file of one array slab by slab.

    Each call then gets some of the rows, at least one, in order; what the calls return, one after
    the other, has to be what one call with all of the rows would. Axis 0 has to hold rows.
    """
    function.slabs = True  # type: ignore[attr-defined]
    return function


def changed(
    arrays: Arrays, members: Members, change: Callable[[str, np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """``arrays``, those in ``members`` (None: all) as ``change(name, array)`` makes them.

    :raises BadFile: one of ``members`` is not there.
    """
    wanted = chosen(arrays, members)
    return {
        name: change(name, array) if name in wanted else array for name, array in arrays.items()
    }


def chosen(arrays: Arrays, members: Members) -> list[str]:
    """The names that ``members`` (None: all) means.

    :raises BadFile: one of them is not there.
    """
    if members is None:
        return list(arrays)
    wanted = [members] if isinstance(members, str) else list(members)
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise BadFile(
            f"an array {missing[0]!r}",
            f"{', '.join(map(repr, list(arrays)[:20])) or 'none'}",
            "Set 'members' of the step to one of them, or leave it out",
        )
    return wanted


def row_axes(name: str, array: np.ndarray, axes: str | None) -> dict[str, int]:
    """The axis that each letter of ``axes`` (None: the last of ``tzyx``) means, from 1 on.

    :raises BadFile: the rows have more axes, or fewer.
    :raises ValueError: ``axes`` names one twice.
    """
    if axes is not None and len(set(axes)) != len(axes):
        raise ValueError(f"axes {axes!r} names an axis twice; give each its own letter")
    count = array.ndim - 1
    letters = axes if axes is not None else _AXES[max(0, len(_AXES) - count) :]
    if len(letters) != count:
        raise BadFile(
            f"rows with {len(letters)} axes, called {letters!r}"
            if count >= 0
            else "an array with rows along axis 0",
            f"{name!r} has the shape {array.shape}",
            "Set 'axes' of the step, a letter for each axis of a row (yxc: a colour picture); "
            "if the whole array is one row, put the step as_row before",
        )
    return {letter: axis for axis, letter in enumerate(letters, start=1)}


def axis_of(name: str, array: np.ndarray, axes: Mapping[str, int], letter: str) -> int:
    """The axis called ``letter``.

    :raises BadFile: the rows have none of that name.
    """
    if letter not in axes:
        raise BadFile(
            f"rows with an axis {letter!r}",
            f"{name!r} has rows of shape {array.shape[1:]}, axes {''.join(axes)!r}",
            "If the whole array is one row, put the step as_row before; else say with 'axes' what "
            "the axes of a row are called",
        )
    return axes[letter]
