"""A compressed dataset that is open for writing. Chunks are written whole, but for the last.

Rows gather until they fill a chunk. It is compressed beside HDF5, and written as it is. The last,
partial chunk stays in memory too after it was written, so that it can be written again. Where
chunks are only a part of their rows, what is said of a chunk holds of those side by side.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import h5py
import numpy as np
from h5py import h5d

from ingestd.model import RowRange
from ingestd.sinks.filters import Compress, Stored, compressor, scratch_compressor, unfiltered
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
        self._shape: tuple[int, ...] = self._made.get_chunk()
        self._chunk_rows = self._shape[0]
        self._origins = self._part_origins()
        self._chunk_bytes = self._chunk_rows * self.type.row_bytes
        self._compress = self._outside_hdf5()
        self._written = self.visible = int(dataset.shape[0])
        # The last chunk: its number, how many rows it has, and their bytes, followed by room
        # for the rest. None: its rows all stand in the file.
        self._chunk, self._chunk_filled = divmod(self._written, self._chunk_rows)
        self._buffer: np.ndarray | None = None
        part_bytes = math.prod(self._shape) * self.type.dtype.itemsize
        self._partial = kept.partial if kept else PartialChunks(part_bytes)
        if kept is not None:
            self._resume(kept, kept.rows if rows_max is None else min(rows_max, kept.rows))

    @property
    def handle(self) -> h5py.Dataset:
        """The dataset, to read written rows from."""
        if self._misread:
            # HDF5 (2.0) takes the chunk that was written last for filtered, or not, as what was
            # there before, whatever it was told. It learns better when the dataset is opened anew.
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
        wasted = filled if self._made.get_nfilters() else 0
        if self.rows > self._written and (whole or self._partial.due(wasted)):
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
        replacing = chunk if start < self._written else None
        for origin in self._origins:
            self._workers.send(
                functools.partial(self._compress_part, self._compress, chunk, origin),
                len(chunk) // len(self._origins),
                functools.partial(self._land, (start, *origin), replacing),
            )

    def _land(self, origin: tuple[int, ...], replacing: np.ndarray | None, made: Stored) -> None:
        stop = origin[0] + self._chunk_rows
        self._partial.wrote_whole(self._put(origin, stop, made, replacing))

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
        stop, wasted = self.rows, 0
        for origin in self._origins:
            made = self._compress_part(self._compress, chunk, origin)
            wasted += self._put((start, *origin), stop, made, replacing)
        self._partial.wrote_partial(wasted if self._made.get_nfilters() else 0)

    def _put(
        self, origin: tuple[int, ...], stop: int, made: Stored, replacing: np.ndarray | None
    ) -> int:
        """Write a chunk of the rows up to ``stop``; how many bytes that took.

        ``replacing``: the bytes of the rows, if a part of them was written before.
        """
        there = b"" if replacing is None else self._id.read_direct_chunk(origin)[1]
        if replacing is not None and there != made.data and len(there) == len(made.data):
            # HDF5 moves a chunk only if its size changes. Written over, a reader might see
            # half of each; bytes that went past all filters are the same in either half.
            part = self._part(replacing, origin[1:])
            made = unfiltered(part, self._made.get_nfilters())
        self._extend(stop)
        if there == made.data:
            return 0
        self._id.write_direct_chunk(origin, made.data, made.mask)
        self._misread = True
        return len(made.data)

    def _extend(self, rows: int) -> None:
        if rows > self._written:
            self._id.set_extent((rows, *self.type.row_shape))
            self._written = rows

    # Chunks that are a part of their rows

    def _part_origins(self) -> list[tuple[int, ...]]:
        """Where in a row the chunks begin that are side by side."""
        axes = zip(self.type.row_shape, self._shape[1:], strict=True)
        return list(itertools.product(*(range(0, size, step) for size, step in axes)))

    def _part(self, rows: np.ndarray, origin: tuple[int, ...]) -> np.ndarray:
        """The bytes of the chunk that begins at ``origin``, among those of whole ``rows``."""
        if self._shape[1:] == self.type.row_shape:
            return rows
        where = (slice(at, at + size) for at, size in zip(origin, self._shape[1:], strict=True))
        part = self._typed(rows)[(slice(None), *where)]
        if part.shape == self._shape:
            return _bytes(part)
        # It ends beyond the rows.
        whole = np.resize(self._fill(), math.prod(self._shape) * self.type.dtype.itemsize)
        beyond = whole.view(self.type.dtype).reshape(self._shape)
        beyond[tuple(map(slice, part.shape))] = part
        return whole

    def _compress_part(
        self, compress: Compress, rows: np.ndarray, origin: tuple[int, ...]
    ) -> Stored:
        return compress(self._part(rows, origin))

    def _typed(self, data: np.ndarray) -> np.ndarray:
        return data.view(self.type.dtype).reshape(-1, *self.type.row_shape)

    def _fill(self) -> np.ndarray:
        value = np.zeros(1, self.type.dtype)
        self._made.get_fill_value(value)
        return _bytes(value)

    def _outside_hdf5(self) -> Compress | None:
        """How to compress beside HDF5, if HDF5 would store a row's bytes just as NumPy has them."""
        if self._memory != self._id.get_type():
            return None
        return compressor(self._made) or scratch_compressor(self._id)


def _bytes(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
