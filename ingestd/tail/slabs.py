"""Rows, slab by slab. Rows that a starting writer takes back meanwhile are not given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ingestd.model import shown
from ingestd.tail.opening import CutBack
from ingestd.tail.output import Output

SLAB_BYTES = 4 << 20
"""Bytes of rows held at a time, if one row is not larger."""


class Slabs:
    """Reads rows below ``stop``, which are committed, in order, holding one slab of them.

    Rows of many small files that stand in one slab are read at once.
    """

    def __init__(
        self, output: Output, dataset: str, stop: int, slab_bytes: int = SLAB_BYTES
    ) -> None:
        self._output = output
        self._dataset = dataset
        self._stop = stop
        self._placed = output.placed(dataset)
        self._step = output.slab_rows(dataset, slab_bytes)
        self._marker = output.last(dataset)
        self._start = 0
        self._rows = np.empty(0)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """Rows ``start`` to ``stop``: the first row, and the rows, of each piece.

        :raises CutBack: the writer took committed rows back since this was made.
        :raises OSError: HDF5 cannot read the rows.
        """
        while start < stop:
            if not self._start <= start < self._start + len(self._rows):
                self._load(start, stop)
            end = min(stop, self._start + len(self._rows))
            yield start, self._rows[start - self._start : end - self._start]
            start = end

    def _load(self, start: int, stop: int) -> None:
        aligned = (start // self._step + 1) * self._step
        # Where rows are missing, those before the gap are still to be had.
        # What follows placed rows comes at another time, or not at all.
        reach = stop if self._placed else self._stop
        end = min(aligned, reach, max(self._output.extent(self._dataset), start + 1))
        try:
            rows = self._output.rows(self._dataset, start, end)
        except OSError:
            self._check_nothing_was_cut()
            # A broken chunk spoils only the files that have rows in it.
            rows = self._output.rows(self._dataset, start, min(end, stop))
        self._check_nothing_was_cut()
        self._start, self._rows = start, rows

    def _check_nothing_was_cut(self) -> None:
        # A starting writer cuts what its ledger does not know, the last committed file perhaps.
        # Rows read meanwhile may be fill values: they count only if the marker still stands.
        index, marker = self._marker
        self._output.refresh()
        if not self._output.stands(self._dataset, index, marker):
            raise CutBack(
                f"{shown(str(self._output.path))}:{shown(self._dataset)}: a writer that started "
                "anew took rows back while they were read. Try again"
            )
