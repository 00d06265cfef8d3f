"""A filtered dataset whose rows are put at stated places. A chunk that is written again moves, or
is left unfiltered: a row that was there reads the same all the while, whoever dies meanwhile."""

from __future__ import annotations

import numpy as np

from ingestd.chunks import CHUNK_BYTES
from ingestd.model import RowRange
from ingestd.sinks.hdf5_compressed import CompressedDataset
from ingestd.sinks.hdf5_plain import PlainDataset, write_rows


class PlacedDataset(CompressedDataset):
    """One open dataset. Chunks come in any order, and more than once; none waits."""

    @property
    def rows(self) -> int:
        return self._written

    def write_out(self, *, whole: bool = True) -> None:
        """Nothing waits."""

    def write(self, start: int, rows: np.ndarray) -> RowRange:
        """Put ``rows`` at ``start``; those between the last and ``start`` read as fill."""
        assert rows.dtype == self.type.dtype and rows.shape[1:] == self.type.row_shape
        stop, step = start + len(rows), self._chunk_rows
        self._extend(stop)
        for first in range(start - start % step, stop, step):
            low, high = max(first, start), min(first + step, stop)
            self._put_rows(first, low - first, rows[low - start : high - start])
        return RowRange(start, stop)

    def _put_rows(self, first: int, at: int, rows: np.ndarray) -> None:
        """Put ``rows`` into the chunks that begin at row ``first``, ``at`` rows further on."""
        if self._compress is None:
            write_rows(self._id, first + at, rows, self._memory)
            return
        chunk = np.resize(self._fill(), self._chunk_bytes)
        whole = self._typed(chunk)
        if len(rows) < len(whole):
            there = self.handle[first : first + len(whole)]
            whole[: len(there)] = there
        whole[at : at + len(rows)] = rows
        for origin in self._origins:
            place = first, *origin
            again = self.handle.id.get_chunk_info_by_coord(place).byte_offset is not None
            made = self._compress_part(self._compress, chunk, origin)
            self._put(place, self._written, made, chunk if again else None)


def blank(live: PlainDataset | PlacedDataset, rows: RowRange) -> bool:
    """Write the fill value where something else stands; whether there was."""
    live.write_out()
    changed = False
    step = max(1, CHUNK_BYTES // live.type.row_bytes)
    for start in range(rows.start, rows.stop, step):
        there = live.handle[start : min(start + step, rows.stop)]
        empty = np.full_like(there, live.handle.fillvalue)
        if there.tobytes() != empty.tobytes():
            live.write(start, empty)
            changed = True
    return changed
