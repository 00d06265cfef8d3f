"""The next files to read, in step over several datasets. A file counts when all of them have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingestd.tail.output import RECORDS_AT_ONCE, Output
from ingestd.tail.position import Position


@dataclass(frozen=True, slots=True)
class Window:
    """Some files after a position: their records, by dataset; the first may be read in part.

    ``records[d][i]`` is the record of file i in dataset d, and ``index[d][i]`` says which it is;
    ``first[d, i]`` and ``rows[d, i]`` are its first row and how many it names.
    """

    records: list[np.ndarray]
    index: list[np.ndarray]
    first: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, records: list[np.ndarray], index: list[np.ndarray]) -> Window:
        """A window of these, of the same files in each dataset."""
        first, rows = (
            np.array([r[key] for r in records], np.int64) for key in ("first_row", "rows")
        )
        return cls(records, index, first, rows)

    def __len__(self) -> int:
        return len(self.index[0])

    def after(self, files: int) -> Window:
        """Without the first ``files``."""
        return Window(
            [r[files:] for r in self.records],
            [i[files:] for i in self.index],
            self.first[:, files:],
            self.rows[:, files:],
        )

    def run(self) -> int:
        """How many of the files lie one behind the other, in every dataset."""
        breaks = self.first[:, 1:] != self.first[:, :-1] + self.rows[:, :-1]
        (ends,) = np.nonzero(breaks.any(axis=0))
        return int(ends[0]) + 1 if len(ends) else len(self)

    @property
    def even(self) -> bool:
        """Whether the first file has as many rows in each dataset."""
        return bool((self.rows[:, 0] == self.rows[0, 0]).all())


def next_files(output: Output, position: Position) -> Window | None:
    """The files after ``position``, RECORDS_AT_ONCE or fewer; None: no more are committed."""
    ends = [output.last(dataset)[0] + 1 for dataset in position.datasets]
    at = list(position.records)
    while True:
        stops = [min(a + RECORDS_AT_ONCE, end) for a, end in zip(at, ends, strict=True)]
        if any(a >= stop for a, stop in zip(at, stops, strict=True)):
            return None
        found = _read(output, position, at, stops)
        if len(found) == 1:
            return Window.of(found, [np.arange(at[0], stops[0])])
        window = _in_step(found, at)
        if len(window):
            return window
        # Ids rise, so files before the first of another dataset are not in that one.
        first_id = max(int(records["file_id"][0]) for records in found)
        at = [
            a + int(np.searchsorted(records["file_id"], first_id))
            for a, records in zip(at, found, strict=True)
        ]


def _read(
    output: Output, position: Position, starts: list[int], stops: list[int]
) -> list[np.ndarray]:
    return [
        output.records(dataset, start, stop)
        for dataset, start, stop in zip(position.datasets, starts, stops, strict=True)
    ]


def _in_step(found: list[np.ndarray], at: list[int]) -> Window:
    ids = found[0]["file_id"]
    for records in found[1:]:
        ids = np.intersect1d(ids, records["file_id"], assume_unique=True)
    where = [np.flatnonzero(np.isin(records["file_id"], ids)) for records in found]
    return Window.of(
        [records[w] for records, w in zip(found, where, strict=True)],
        [w + a for w, a in zip(where, at, strict=True)],
    )
