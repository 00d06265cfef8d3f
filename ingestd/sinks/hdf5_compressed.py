"""A compressed dataset that is open for writing. Chunks are written whole, but for the last.

Rows gather until they fill a chunk. It is compressed beside HDF5, and written as it is. The last,
partial chunk stays in memory too after it was written, so that it can be written again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import h5py
import numpy as np
from h5py import h5d

from ingestd.model import RowRange
from ingestd.sinks.filters import Compress, Stored, compressor, unfiltered
from ingestd.sinks.hdf5_plain import memory_type, row_type, write_rows
from ingestd.sinks.partial import PartialChunks
from ingestd.sinks.workers import Workers


@dataclass(frozen=True, slots=True)
class Kept:
    """What a dataset has in memory, from one opening of the file to the next."""

    rows: int
    buffer: np.ndarray | None
    partial: PartialChunks


class CompressedDataset:
    """One open dataset, its chunks under way, and the rows of its last chunk."""

    def __init__(
        self,
        open_: Callable[[], h5d.DatasetID],
        workers: Workers,
        kept: Kept | None,
        rows_max: int | None,
    ) -> None:
        """``kept``: rows that are to come, but for those from ``rows_max`` on."""
        self._open = open_
        self._id = dataset = open_()
        self._misread = False
        self._workers = workers
        self._made = dataset.get_create_plist()
        self.type = row_type(dataset)
        self._memory = memory_type(self.type.dtype)
        self._chunk_rows: int = self._made.get_chunk()[0]
        self._chunk_bytes = self._chunk_rows * self.type.row_bytes
        self._compress = self._outside_hdf5()
        self._written = self.visible = int(dataset.shape[0])
        # The last chunk: its number, how many rows it has, and their bytes, followed by room
        # for the rest. None: its rows all stand in the file.
        self._chunk, self._chunk_filled = divmod(self._written, self._chunk_rows)
        self._buffer: np.ndarray | None = None
        self._partial = kept.partial if kept else PartialChunks(self._chunk_bytes)
        if kept is not None:
            self._resume(kept, kept.rows if rows_max is None else min(rows_max, kept.rows))

    @property
    def handle(self) -> h5py.Dataset:
        """The dataset, to read written rows from."""
        if self._misread:
            # HDF5 (2.0) takes the chunk that was written last for filtered, though it was told
            # that it is not. It learns better when the dataset is opened anew.
            self._id = None
            self._id = self._open()
            self._misread = False
        return h5py.Dataset(self._id)

    @property
    def rows(self) -> int:
        return int(self._chunk * self._chunk_rows + self._chunk_filled)

    def append(self, rows: np.ndarray) -> RowRange:
        assert rows.dtype == self.type.dtype and rows.shape[1:] == self.type.row_shape
        start, stop = self.rows, self.rows + len(rows)
        data = _bytes(rows)
        while len(data):
            data = data[self._take(data) :]
        return RowRange(start, stop)

    def write_out(self, *, whole: bool = True) -> None:
        """Write what fills chunks; the partial chunk too, if it is due or ``whole``."""
        self._workers.land_all()
        filled = self._chunk_filled * self.type.row_bytes
        if self.rows > self._written and (whole or self._partial.due(filled)):
            self._write_partial(filled)

    def flushed(self) -> None:
        """The file was flushed."""
        self.visible = self._written

    def keep(self) -> Kept:
        """What is to be given to the next of this dataset; no chunk is under way."""
        return Kept(self.rows, self._buffer, self._partial)

    # The last chunk

    def _take(self, data: np.ndarray) -> int:
        """Put as much of ``data`` into the last chunk as there is room for; how much that was."""
        at = self._chunk_filled * self.type.row_bytes
        part = data[: self._chunk_bytes - at]
        if len(part) == self._chunk_bytes:
            self._send(part)
            return len(part)
        buffer = self._writable()
        buffer[at : at + len(part)] = part
        self._chunk_filled += len(part) // self.type.row_bytes
        self._partial.rows_wait()
        if self._chunk_filled == self._chunk_rows:
            self._buffer = None
            self._send(buffer)
        return len(part)

    def _writable(self) -> np.ndarray:
        if self._buffer is None:
            self._buffer = np.empty(self._chunk_bytes, np.uint8)
            if self._chunk_filled:
                there = _bytes(self.handle[self._chunk * self._chunk_rows : self.rows])
                self._buffer[: len(there)] = there
        return self._buffer

    def _resume(self, kept: Kept, rows: int) -> None:
        """Take over the kept rows below ``rows``."""
        start = kept.rows - kept.rows % self._chunk_rows
        if rows > start:
            self._chunk_filled = rows - start
            self._buffer = kept.buffer
        if self.rows == self._written:
            self._partial.none_wait()

    # Writing

    def _send(self, chunk: np.ndarray) -> None:
        start = self._chunk * self._chunk_rows
        self._chunk, self._chunk_filled = self._chunk + 1, 0
        self._partial.none_wait()
        if self._compress is None:
            self._extend(start + self._chunk_rows)
            write_rows(self._id, start, self._typed(chunk), self._memory)
            self._partial.wrote_whole(len(chunk))
            return
        self._workers.send(
            functools.partial(self._compress, chunk),
            len(chunk),
            functools.partial(self._land, start, chunk if start < self._written else None),
        )

    def _land(self, start: int, replacing: np.ndarray | None, made: Stored) -> None:
        self._partial.wrote_whole(self._put(start, start + self._chunk_rows, made, replacing))

    def _write_partial(self, filled: int) -> None:
        chunk = self._writable()
        chunk[filled:] = np.resize(self._fill(), len(chunk) - filled)
        start = self._chunk * self._chunk_rows
        if self._compress is None:
            self._extend(self.rows)
            write_rows(self._id, start, self._typed(chunk[:filled]), self._memory)
            self._partial.wrote_partial(filled)
            return
        replacing = chunk if start < self._written else None
        self._partial.wrote_partial(self._put(start, self.rows, self._compress(chunk), replacing))

    def _put(self, start: int, stop: int, made: Stored, replacing: np.ndarray | None) -> int:
        """Write a chunk of the rows ``start`` to ``stop``; how many bytes that took.

        ``replacing``: the bytes of the chunk, if a part of it was written before.
        """
        origin = (start, *(0,) * len(self.type.row_shape))
        there = b"" if replacing is None else self._id.read_direct_chunk(origin)[1]
        if replacing is not None and there != made.data and len(there) == len(made.data):
            # HDF5 moves a chunk only if its size changes. Written over, a reader might see
            # half of each; bytes that went past all filters are the same in either half.
            made = unfiltered(replacing, self._made.get_nfilters())
        self._extend(stop)
        if there == made.data:
            return 0
        self._id.write_direct_chunk(origin, made.data, made.mask)
        self._misread |= bool(made.mask)
        return len(made.data)

    def _extend(self, rows: int) -> None:
        if rows > self._written:
            self._id.set_extent((rows, *self.type.row_shape))
            self._written = rows

    def _typed(self, data: np.ndarray) -> np.ndarray:
        return data.view(self.type.dtype).reshape(-1, *self.type.row_shape)

    def _fill(self) -> np.ndarray:
        value = np.zeros(1, self.type.dtype)
        self._made.get_fill_value(value)
        return _bytes(value)

    def _outside_hdf5(self) -> Compress | None:
        """How to compress beside HDF5, if HDF5 would store a row's bytes just as NumPy has them."""
        same = self._memory == self._id.get_type()
        rows_are_whole = self._made.get_chunk()[1:] == self.type.row_shape
        return compressor(self._made) if same and rows_are_whole else None


def _bytes(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
