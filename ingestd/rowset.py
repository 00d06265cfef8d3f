"""A set of rows by their index, held as ranges: which were placed, and which are missing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from ingestd.model import RowRange


class RowSet:
    """Rows; memory grows with the number of ranges that do not touch, not with that of rows."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """:param ranges: first row and row after the last."""
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    @property
    def stop(self) -> int:
        """The row after the last one."""
        return self._stops[-1] if self._stops else 0

    def add(self, start: int, stop: int) -> None:
        """Take rows ``start`` up to, not including, ``stop`` in."""
        if start == stop:
            return
        first, after = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < after:  # it touches these: all become one
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[after - 1])
        self._starts[first:after] = [start]
        self._stops[first:after] = [stop]

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether one of the rows ``start`` up to ``stop`` is in it."""
        at = bisect_right(self._stops, start)
        return start < stop and at < len(self._starts) and self._starts[at] < stop

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of the rows ``start`` up to ``stop`` are in it."""
        return next(self.missing(start, stop), None) is None

    def missing(self, start: int, stop: int) -> Iterator[RowRange]:
        """Those of the rows ``start`` up to ``stop`` that are not in it."""
        for at in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[at] >= stop:
                break
            if self._starts[at] > start:
                yield RowRange(start, self._starts[at])
            start = self._stops[at]
        if start < stop:
            yield RowRange(start, stop)
