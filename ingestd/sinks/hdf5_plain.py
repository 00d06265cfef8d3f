"""An uncompressed dataset that is open for writing. Rows are handed to HDF5 about a megabyte
at a time, and every flush hands over all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import h5py
import numpy as np
from h5py import h5d, h5f, h5p, h5s

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


PIECE_BYTES = 256 << 10
"""So much goes to the kernel at once. For larger writes Linux looks for larger pages to cache them
in, which at times took three times as long."""


def write_rows(
    dataset: h5d.DatasetID, first: tuple[int, ...], rows: np.ndarray, space: h5s.SpaceID
) -> None:
    """Let HDF5 write ``rows`` from ``first`` on, within the dataset's extent, ``space``."""
    space.select_hyperslab(first, rows.shape)
    dataset.write(h5s.create_simple(rows.shape), space, rows)


def _pieces(rows: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """``rows`` in contiguous pieces of about ``PIECE_BYTES``, each with where it begins."""
    rest = (0,) * (rows.ndim - 1)
    step = max(1, PIECE_BYTES * len(rows) // rows.nbytes)
    for at in range(0, len(rows), step):
        some = rows[at : at + step]
        if len(some) > 1 or some.nbytes <= PIECE_BYTES or not rest:
            yield (at, *rest), some
            continue
        # A large row: in parts, along its own first axis.
        parts = max(1, PIECE_BYTES * some.shape[1] // some.nbytes)
        for part in range(0, some.shape[1], parts):
            yield (at, part, *rest[1:]), some[:, part : part + parts]


class PlainDataset:
    """One open dataset and the rows that wait to be written to it together.

    ``cover`` makes the file as long as HDF5 takes it to be.
    """

    def __init__(self, dataset: h5d.DatasetID, cover: Callable[[], None]) -> None:
        self._id = dataset
        self._cover = cover
        self.handle = h5py.Dataset(dataset)
        shape = dataset.shape
        self.type = RowType(dataset.dtype, shape[1:])
        made = dataset.get_create_plist()
        chunk_rows = made.get_chunk()[0]
        # A chunk that HDF5 fills first goes to the kernel whole: then again in pieces is worse.
        self._in_pieces = made.get_fill_time() == h5d.FILL_TIME_NEVER
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

    def write_out(self, *, whole: bool = True) -> None:
        """Hand the waiting rows to HDF5."""
        if not self._waiting:
            return
        rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        stop = self._written + len(rows)
        self._id.set_extent((stop, *self.type.row_shape))
        space = self._id.get_space()
        rows = np.ascontiguousarray(rows)
        all_of_it = ((0,) * rows.ndim, rows)
        for first, piece in _pieces(rows) if self._in_pieces else (all_of_it,):
            write_rows(self._id, (self._written + first[0], *first[1:]), piece, space)
            # Of a chunk that is written in part the rest is beyond the end of the file. After a
            # crash HDF5 would not read it: the length of the file is all that repair has.
            self._cover()
        self._written = stop
        self._waiting.clear()
        self._waiting_rows = 0

    def flushed(self) -> None:
        """The file was flushed."""
        self.visible = self._written
