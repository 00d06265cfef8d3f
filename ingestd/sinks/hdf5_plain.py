"""A dataset that is open for writing, uncompressed, or placed. Rows are handed to HDF5 about a
megabyte at a time, and every flush hands over all."""

from __future__ import annotations

import itertools
import math

import h5py
import numpy as np
from h5py import h5d, h5f, h5p, h5s, h5t

from ingestd import layout
from ingestd.chunks import CHUNK_BYTES
from ingestd.model import RowRange, RowType
from ingestd.sinks.hdf5_filters import need_filters


def open_dataset(file: h5f.FileID, name: str) -> h5d.DatasetID:
    """The dataset ``name``, whose chunks go straight to the file."""
    access = h5p.create(h5p.DATASET_ACCESS)
    # No chunk cache: a chunk that a failed write left in it would be lost without a word,
    # and HDF5 may crash on closing it.
    access.set_chunk_cache(0, 0, 0.75)
    dataset = h5d.open(file, name.encode(), access)
    need_filters(dataset)
    return dataset


def row_type(dataset: h5d.DatasetID) -> RowType:
    """What the rows of ``dataset`` are."""
    attrs = h5py.Dataset(dataset).attrs
    return RowType(dataset.dtype, dataset.shape[1:], layout.units_of(attrs))


def write_rows(dataset: h5d.DatasetID, start: int, rows: np.ndarray, memory: h5t.TypeID) -> None:
    """Let HDF5 write ``rows``, of its type ``memory``, at ``start``, within the extent."""
    space = dataset.get_space()
    space.select_hyperslab((start, *(0,) * (rows.ndim - 1)), rows.shape)
    dataset.write(h5s.create_simple(rows.shape), space, np.ascontiguousarray(rows), memory)


def memory_type(dtype: np.dtype) -> h5t.TypeID:
    """HDF5's type of ``dtype``, its enumerations with their names: NumPy loses these easily."""
    return h5t.py_create(dtype, logical=True)


def consecutive(chunk: tuple[int, ...], row_shape: tuple[int, ...]) -> bool:
    """Whether rows one after the other are chunks one after the other, byte by byte."""
    shape = (chunk[0], *row_shape)
    whole = len(shape)
    while whole and chunk[whole - 1] == shape[whole - 1]:
        whole -= 1
    # Before the axes that are whole, one that is cut evenly, and before that one of each.
    cut = max(0, whole - 1)
    return shape[cut] % chunk[cut] == 0 and all(size == 1 for size in chunk[:cut])


class PlainDataset:
    """One open dataset and the rows that wait to be written to it together."""

    def __init__(self, dataset: h5d.DatasetID) -> None:
        self._id = dataset
        self.handle = h5py.Dataset(dataset)
        shape = dataset.shape
        self.type = row_type(dataset)
        self._memory = memory_type(self.type.dtype)
        chunk = dataset.get_create_plist().get_chunk()
        self._full_rows = min(chunk[0], max(1, CHUNK_BYTES // self.type.row_bytes))
        # What chunks hold, if HDF5 stores the very bytes that NumPy has, one after the other.
        alike = self._memory == dataset.get_type() and consecutive(chunk, self.type.row_shape)
        self._direct = chunk if alike else None
        self._written = self.visible = int(shape[0])
        self._waiting: list[np.ndarray] = []
        self._waiting_rows = 0

    @property
    def rows(self) -> int:
        return self._written + self._waiting_rows

    def append(self, rows: np.ndarray) -> RowRange:
        assert rows.dtype == self.type.dtype and rows.shape[1:] == self.type.row_shape
        start = self.rows
        if len(rows):
            self._waiting.append(rows)
            self._waiting_rows += len(rows)
            if self._waiting_rows >= self._full_rows:
                self.write_out()
        return RowRange(start, start + len(rows))

    def write(self, start: int, rows: np.ndarray) -> RowRange:
        """Put ``rows`` at ``start``; those between the last and ``start`` read as fill."""
        assert rows.dtype == self.type.dtype and rows.shape[1:] == self.type.row_shape
        self.write_out()
        stop = start + len(rows)
        if stop > self._written:
            self._id.set_extent((stop, *self.type.row_shape))
            self._written = stop
        write_rows(self._id, start, rows, self._memory)
        return RowRange(start, stop)

    def write_out(self, *, whole: bool = True) -> None:
        """Hand the waiting rows to HDF5."""
        if not self._waiting:
            return
        # The dtype said: NumPy would make it native.
        rows = (
            self._waiting[0]
            if len(self._waiting) == 1
            else np.concatenate(self._waiting, dtype=self.type.dtype)
        )
        stop = self._written + len(rows)
        self._id.set_extent((stop, *self.type.row_shape))
        self._write_new(self._written, rows)
        self._written = stop
        self._waiting.clear()
        self._waiting_rows = 0

    def _write_new(self, start: int, rows: np.ndarray) -> None:
        """Write ``rows``, of which none was there before, at ``start``.

        HDF5 would fill and copy each new chunk first; one that ``rows`` fill goes as it is.
        """
        if self._direct is None:
            write_rows(self._id, start, rows, self._memory)
            return
        chunk_rows = self._direct[0]
        head = min(-start % chunk_rows, len(rows))
        tail = len(rows) - (len(rows) - head) % chunk_rows
        if head:
            write_rows(self._id, start, rows[:head], self._memory)
        if head < tail:
            self._write_chunks(start + head, rows[head:tail])
        if tail < len(rows):
            write_rows(self._id, start + tail, rows[tail:], self._memory)

    def _write_chunks(self, start: int, rows: np.ndarray) -> None:
        assert self._direct is not None
        shape = (len(rows), *self.type.row_shape)
        origins = itertools.product(*map(range, itertools.repeat(0), shape, self._direct))
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        size = math.prod(self._direct) * self.type.dtype.itemsize
        for at, origin in zip(range(0, len(data), size), origins, strict=True):
            self._id.write_direct_chunk((start + origin[0], *origin[1:]), data[at : at + size])

    def flushed(self) -> None:
        """The file was flushed."""
        self.visible = self._written
