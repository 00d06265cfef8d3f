"""Transforms that choose: columns of a table, arrays of a file. What is kept is not changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingestd.errors import BadFile
from ingestd.transforms.common import Arrays, Captures, Members, changed, chosen, slabwise

Columns = int | str | Sequence[int] | Sequence[str]


@slabwise
def keep(arrays: Arrays, captures: Captures, *, members: Members) -> dict[str, np.ndarray]:
    """The arrays named, and no others, which are not read. Shapes stay.

    :raises BadFile: one of them is not there.
    """
    return {name: arrays[name] for name in chosen(arrays, members)}


@slabwise
def select(
    arrays: Arrays, captures: Captures, *, columns: Columns, members: Members = None
) -> dict[str, np.ndarray]:
    """Some columns of each table, in the order given; one without brackets loses its axis.

    Columns of ``(rows, columns)`` go by number: ``[0, 2]`` gives ``(rows, 2)``, ``0`` gives
    ``(rows,)``. Those of a compound dtype go by name: ``[x, y]`` gives a compound of these two,
    packed, ``x`` that field alone.

    :raises BadFile: a column is not there, or the array has none.
    """
    return changed(arrays, members, lambda name, array: _select(name, array, columns))


def _select(name: str, array: np.ndarray, columns: Columns) -> np.ndarray:
    wanted = [columns] if isinstance(columns, int | str) else list(columns)
    if not wanted:
        raise ValueError("no column is named; write one or more, like [0, 2]")
    if array.dtype.names is not None:
        there: Sequence[int | str] = array.dtype.names
    else:
        there = range(array.shape[-1]) if array.ndim > 1 else ()
    missing = [column for column in wanted if column not in there]
    if missing:
        raise BadFile(
            f"a column {missing[0]!r}",
            f"{name!r} is {array.dtype} {array.shape}"
            + (f", with columns {', '.join(map(str, there[:20]))}" if there else ", without any"),
            "Set 'columns' to those that are there, from 0 on or by name",
        )
    if array.dtype.names is None:
        return np.asarray(array[..., np.asarray(columns)])
    if isinstance(columns, str):
        return array[columns]
    from numpy.lib.recfunctions import repack_fields  # late: it takes 10 ms

    return np.asarray(repack_fields(array[[str(column) for column in wanted]]))
