"""The HDF5 sink: datasets that grow under SWMR. What was flushed and synced outlives any crash.

The file is only ever open in SWMR mode, where every prefix of HDF5's writes is a file that
can be repaired. What SWMR cannot do (make a dataset, cut one) happens in between, through
``hdf5_edit``.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from h5py import h5d, h5f, h5p, h5s

from ingestd import layout
from ingestd.chunks import CHUNK_BYTES
from ingestd.errors import BadFile, BrokenInvariant, BusyWorld
from ingestd.model import RowRange, RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5_create import create
from ingestd.sinks.hdf5_edit import LIBVER, edit, sync_directory
from ingestd.sinks.reserve import Reserve

_READ_BYTES = 4 << 20

_ERRNO = re.compile(r"errno = (\d+)")


class Hdf5Sink:
    """One HDF5 file, see :class:`ingestd.sinks.Sink`. It must be sound: recovered, flags clear.

    ``reserve`` bytes of disk are kept allocated ahead of its end while it is open.
    """

    def __init__(self, path: Path, reserve: int = 0) -> None:
        self.path = path
        self._reserve = Reserve(path, reserve)
        self._file: h5f.FileID | None = None
        self._live: dict[str, _LiveDataset] = {}
        if path.exists():
            self._open()

    @property
    def types(self) -> Mapping[str, RowType]:
        return {name: live.type for name, live in self._live.items()}

    def rows(self, dataset: str) -> int:
        return self._live[dataset].rows

    def ensure(
        self, specs: Mapping[str, DatasetSpec], attrs: Mapping[str, Mapping[str, Any]]
    ) -> None:
        missing = {name: spec for name, spec in specs.items() if name not in self._live}
        if not missing:
            return
        with world(self.path):
            self._check_is_ours()
            self.close()
            refused = None
            try:
                if self.path.exists():
                    with edit(self.path) as file:
                        create(file, missing, attrs)
                else:
                    self._make(missing, attrs)
            except (ValueError, TypeError) as error:
                refused = error
            if self.path.exists():
                self._open()
        if refused is not None:
            raise BadFile(
                "rows that HDF5 can hold", str(refused), "Correct the file, or the dataset's config"
            ) from refused

    def append(self, dataset: str, rows: np.ndarray) -> RowRange:
        with world(self.path):
            self._reserve.ahead_of(rows.nbytes)
            return self._live[dataset].append(rows)

    def digest(self, dataset: str, rows: RowRange) -> str:
        with world(self.path):
            return rows_digest(self._live[dataset].handle, rows)

    def cut(self, ends: Mapping[str, int]) -> None:
        with world(self.path):
            self._check_is_ours()
            self.close()
            with edit(self.path) as file:
                for dataset, rows in ends.items():
                    file[dataset].resize(rows, axis=0)
            self._open()

    def flush(self, *, durable: bool = False) -> None:
        if self._file is None:
            return
        with world(self.path):
            self._reserve.top_up()
            for live in self._live.values():
                live.write_out()
            # File.flush, not Dataset.flush: it writes the end of allocation too.
            h5f.flush(self._file, h5f.SCOPE_GLOBAL)
        if durable:
            self.barrier()()

    def barrier(self) -> Callable[[], None]:
        return _Barrier(self.path, None if self._file is None else self._file.get_vfd_handle())

    def close(self) -> None:
        if self._file is None:
            return
        with world(self.path):
            for live in self._live.values():
                live.write_out()
            self._live.clear()
            self._file.close()
            self._file = None
            self._reserve.give_back()

    def abandon(self) -> None:
        """Close after a failed write: nothing more is written but what HDF5 insists on.

        :raises BusyWorld: HDF5 could not close it yet (the disk is still full): call again.
        """
        self._live.clear()
        with world(self.path):
            if self._file is not None:
                self._file.close()
                self._file = None
            self._reserve.give_back()

    def _make(
        self, specs: Mapping[str, DatasetSpec], attrs: Mapping[str, Mapping[str, Any]]
    ) -> None:
        # A writer killed before SWMR mode leaves a file that nothing opens: under its own name
        # the file appears only when it is whole.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.part")
        with h5py.File(temporary, "w", libver=LIBVER) as file:
            create(file, specs, attrs)
        fd = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(self.path)
        sync_directory(self.path.parent)

    def _open(self) -> None:
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V114)
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        # Attached readers hold HDF5's lock; that there is one writer is ours to see to.
        access.set_file_locking(False, False)
        with world(self.path):
            self._reserve.take()
            # Straight into SWMR mode: a crash between open and start would leave flags that
            # nothing opens.
            self._file = h5f.open(
                os.fsencode(self.path), h5f.ACC_RDWR | h5f.ACC_SWMR_WRITE, fapl=access
            )
            self._live = {name: _LiveDataset(self._file, name) for name in self._names()}

    def _names(self) -> list[str]:
        found: list[str] = []
        root = h5py.Group(h5py.h5g.open(self._file, b"/"))

        def visit(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset):
                records = f"{layout.GROUP}/{name}"
                found.extend([layout.dataset_path(records), records])

        if layout.GROUP in root:
            root[layout.GROUP].visititems(visit)
        return found

    def _check_is_ours(self) -> None:
        if self._file is not None:
            _check_is_there(self.path, self._file.get_vfd_handle())


class _Barrier:
    """``fsync`` of an open file, in whatever thread, also if it was closed since."""

    def __init__(self, path: Path, fd: int | None) -> None:
        self._path = path
        self._fd = None if fd is None else os.dup(fd)

    def __call__(self) -> None:
        if self._fd is not None:
            with world(self._path):
                os.fsync(self._fd)
                _check_is_there(self._path, self._fd)
            self.__del__()

    def __del__(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _check_is_there(path: Path, fd: int) -> None:
    """Refuse to go on where the file that is open is not the one at ``path`` any more."""
    ours = os.fstat(fd)
    try:
        there = path.stat()
    except FileNotFoundError:
        there = None
    if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
        raise BrokenInvariant(
            f"{path}: the output was removed or replaced while it was being written. "
            "Put the file back and start again; rows not yet committed are still in the "
            "drop directories"
        )


class _LiveDataset:
    """One open dataset and the rows that wait to be written to it together."""

    def __init__(self, file: h5f.FileID, name: str) -> None:
        access = h5p.create(h5p.DATASET_ACCESS)
        # No chunk cache: a chunk that a failed write left in it would be lost without a word,
        # and HDF5 may crash on closing it. Without, writes go straight to the file.
        access.set_chunk_cache(0, 0, 0.75)
        self._id = h5d.open(file, name.encode(), access)
        self.handle = h5py.Dataset(self._id)
        shape = self._id.shape
        self.type = RowType(self._id.dtype, shape[1:])
        made = self._id.get_create_plist()
        # Rows wait for a full chunk where it is compressed as a whole, else for about a megabyte.
        self._full_rows = made.get_chunk()[0]
        if not made.get_nfilters():
            self._full_rows = min(self._full_rows, max(1, CHUNK_BYTES // self.type.row_bytes))
        self._written = shape[0]
        self._waiting: list[np.ndarray] = []
        self._waiting_rows = 0

    @property
    def rows(self) -> int:
        return int(self._written + self._waiting_rows)

    def append(self, rows: np.ndarray) -> RowRange:
        assert rows.dtype == self.type.dtype and rows.shape[1:] == self.type.row_shape
        start = self.rows
        if len(rows):
            self._waiting.append(rows)
            self._waiting_rows += len(rows)
            if self._waiting_rows >= self._full_rows:
                self.write_out()
        return RowRange(start, start + len(rows))

    def write_out(self) -> None:
        """Hand the waiting rows to HDF5."""
        if not self._waiting:
            return
        rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        stop = self._written + len(rows)
        self._id.set_extent((stop, *self.type.row_shape))
        space = self._id.get_space()
        space.select_hyperslab((self._written, *(0,) * (rows.ndim - 1)), rows.shape)
        self._id.write(h5s.create_simple(rows.shape), space, np.ascontiguousarray(rows))
        self._written = stop
        self._waiting.clear()
        self._waiting_rows = 0


def rows_digest(dataset: h5py.Dataset, rows: RowRange) -> str:
    """xxh3-128, hex, of the bytes of ``rows``, read a few megabytes at a time."""
    hasher = xxhash.xxh3_128()
    row_bytes = RowType(dataset.dtype, dataset.shape[1:]).row_bytes
    step = max(1, _READ_BYTES // row_bytes)
    for start in range(rows.start, rows.stop, step):
        read = dataset[start : min(start + step, rows.stop)]
        hasher.update(np.ascontiguousarray(read).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


@contextlib.contextmanager
def world(path: Path) -> Iterator[None]:
    """HDF5's own errors, told apart: what passes, and what is broken."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = _ERRNO.search(str(error))
        number = getattr(error, "errno", None) or (int(found[1]) if found else None)
        if number is None:
            raise BrokenInvariant(f"{path}: HDF5 failed: {error}") from error
        raise BusyWorld(f"{path}: {os.strerror(number)}") from error
