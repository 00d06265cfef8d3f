"""A dataset that is open for writing, uncompressed, or placed. Rows are handed to HDF5 about a
megabyte at a time, and every flush hands over all."""

from __future__ import annotations

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


class PlainDataset:
    """One open dataset and the rows that wait to be written to it together."""

    def __init__(self, dataset: h5d.DatasetID) -> None:
        self._id = dataset
        self.handle = h5py.Dataset(dataset)
        shape = dataset.shape
        self.type = row_type(dataset)
        self._memory = memory_type(self.type.dtype)
        chunk_rows = dataset.get_create_plist().get_chunk()[0]
        self._full_rows = min(chunk_rows, max(1, CHUNK_BYTES // self.type.row_bytes))
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
        write_rows(self._id, self._written, rows, self._memory)
        self._written = stop
        self._waiting.clear()
        self._waiting_rows = 0

    def flushed(self) -> None:
        """The file was flushed."""
        self.visible = self._written
