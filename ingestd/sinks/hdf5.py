"""The HDF5 sink: datasets that grow under SWMR. What was flushed and synced outlives any crash.

The file is only ever open in SWMR mode, where every prefix of HDF5's writes is a file that
can be repaired. What SWMR cannot do (make a dataset, cut one) happens in between, through
``hdf5_edit``.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from h5py import h5a, h5d, h5f, h5p

from ingestd import layout
from ingestd.disk import sync_directory
from ingestd.errors import BadFile, BrokenInvariant, BusyWorld, SyncFailed
from ingestd.model import RowRange, RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5_compressed import CompressedDataset, Kept
from ingestd.sinks.hdf5_create import create
from ingestd.sinks.hdf5_edit import LIBVER, edit
from ingestd.sinks.hdf5_placed import PlacedDataset, blank
from ingestd.sinks.hdf5_plain import PlainDataset, consecutive, open_dataset
from ingestd.sinks.reserve import Reserve
from ingestd.sinks.workers import Workers

_READ_BYTES = 4 << 20

_PLACES_MAX = 2**40
_CHUNKS_MAX = 2**28
"""Of a placed dataset. HDF5 looks for each of them when it is cut, which takes 10 s then; and the
index of those far out takes memory of its own, some megabytes."""

_ERRNO = re.compile(r"errno = (\d+)")


class Hdf5Sink:
    """One HDF5 file, see :class:`ingestd.sinks.Sink`. It must be sound: recovered, flags clear.

    ``reserve`` bytes of disk are kept allocated ahead of its end while it is open; ``workers``
    threads compress.
    """

    def __init__(self, path: Path, reserve: int = 0, workers: int = 2) -> None:
        self.path = path
        self._reserve = Reserve(path, reserve)
        self._file: h5f.FileID | None = None
        self._live: dict[str, PlainDataset | CompressedDataset] = {}
        self._places: dict[str, int] = {}
        self._workers = Workers(workers)
        if path.exists():
            self._open()

    @property
    def types(self) -> Mapping[str, RowType]:
        return {name: live.type for name, live in self._live.items()}

    def rows(self, dataset: str) -> int:
        return self._live[dataset].rows

    def visible(self, dataset: str) -> int:
        return self._live[dataset].visible

    def places(self, dataset: str) -> int | None:
        return self._places.get(dataset)

    def ensure(
        self, specs: Mapping[str, DatasetSpec], attrs: Mapping[str, Mapping[str, Any]]
    ) -> None:
        missing = {name: spec for name, spec in specs.items() if name not in self._live}
        if not missing:
            return
        with world(self.path):
            self._check_is_ours()
            kept = self._set_aside()
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
                self._open(kept)
        if refused is not None:
            raise BadFile(
                "rows that HDF5 can hold", str(refused), "Correct the file, or the dataset's config"
            ) from refused

    def append(self, dataset: str, rows: np.ndarray) -> RowRange:
        with world(self.path):
            self._reserve.ahead_of(rows.nbytes)
            return self._live[dataset].append(rows)

    def write(self, dataset: str, start: int, rows: np.ndarray) -> RowRange:
        with world(self.path):
            self._reserve.ahead_of(rows.nbytes)
            return self._placed(dataset).write(start, rows)

    def blank(self, dataset: str, rows: RowRange) -> bool:
        with world(self.path):
            return blank(self._placed(dataset), rows)

    def allocated(self, dataset: str) -> list[RowRange]:
        """The rows of ``dataset`` that have a chunk on disk, chunk by chunk."""
        found: list[RowRange] = []
        handle = self._live[dataset].handle

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            start = chunk.chunk_offset[0]
            found.append(RowRange(start, start + handle.chunks[0]))

        with world(self.path):
            handle.id.chunk_iter(note)
        return found

    def _placed(self, dataset: str) -> PlainDataset | PlacedDataset:
        live = self._live[dataset]
        assert isinstance(live, PlainDataset | PlacedDataset), "only a placed dataset has places"
        return live

    def digest(self, dataset: str, rows: RowRange) -> str:
        with world(self.path):
            return rows_digest(self._live[dataset].handle, rows)

    def cut(self, ends: Mapping[str, int]) -> None:
        with world(self.path):
            self._check_is_ours()
            kept = self._set_aside()
            with edit(self.path) as file:
                for dataset, rows in ends.items():
                    file[dataset].resize(min(rows, len(file[dataset])), axis=0)
            self._open(kept, ends)

    def flush(self, *, durable: bool = False, whole: bool = True) -> None:
        if self._file is None:
            return
        with world(self.path):
            self._reserve.top_up()
            for live in self._live.values():
                live.write_out(whole=whole)
            # File.flush, not Dataset.flush: it writes the end of allocation too.
            h5f.flush(self._file, h5f.SCOPE_GLOBAL)
            for live in self._live.values():
                live.flushed()
        if durable:
            self.barrier()()

    def barrier(self) -> Callable[[], None]:
        with world(self.path):
            return _Barrier(self.path, None if self._file is None else self._file.get_vfd_handle())

    def close(self) -> None:
        if self._file is None:
            return
        with world(self.path):
            for live in self._live.values():
                live.write_out()
            self._say_finished(True)
            self._sync()
            self._close_file()
        self._workers.stop()

    def abandon(self) -> None:
        """Close after a failed write: nothing more is written but what HDF5 insists on.

        :raises BusyWorld: HDF5 could not close it yet (the disk is still full): call again.
        """
        self._workers.stop()
        with world(self.path):
            # The disk may have failed, and HDF5 is not to be asked for its file after that.
            with contextlib.suppress(OSError), self.path.open("rb") as file:
                os.fsync(file.fileno())
            self._close_file()

    def _say_finished(self, finished: bool) -> None:
        """Tell readers that go by keys whether there will be no more, for now."""
        for name in self._live:
            if layout.key_path(name) in self._live:
                flag = h5py.Dataset(open_dataset(self._file, layout.finished_path(name)))
                if bool(flag[0]) != finished:
                    flag[0] = finished
                    flag.flush()

    def _sync(self) -> None:
        """A file's mark as open tells recovery to look closely: it must reach the disk before any
        change does, and leave it after all of them."""
        if self._file is not None:
            h5f.flush(self._file, h5f.SCOPE_GLOBAL)
            _fsync(self.path, self._file.get_vfd_handle())

    def _close_file(self) -> None:
        self._live.clear()
        self._places.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._reserve.give_back()

    def _set_aside(self) -> dict[str, Kept]:
        """Close the file for a while; the rows of partial chunks that wait are kept in memory."""
        for live in self._live.values():
            live.write_out(whole=isinstance(live, PlainDataset))
        kept = {
            n: live.keep() for n, live in self._live.items() if isinstance(live, CompressedDataset)
        }
        self._sync()
        self._close_file()
        return kept

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

    def _open(
        self, kept: Mapping[str, Kept] | None = None, ends: Mapping[str, int] | None = None
    ) -> None:
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
            try:
                self._sync()
                for name in self._names():
                    self._live[name] = self._open_dataset(
                        name, (kept or {}).get(name), (ends or {}).get(name)
                    )
                self._say_finished(False)
            except BaseException:
                # Nobody has this sink yet, and an open file would count as being written.
                self._close_file()
                raise

    def _open_dataset(
        self, name: str, kept: Kept | None, rows_max: int | None
    ) -> PlainDataset | CompressedDataset:
        open_ = functools.partial(open_dataset, self._file, name)
        made = open_().get_create_plist()
        # Parts of rows are gathered too: HDF5 would write each row of them by itself.
        plain = not made.get_nfilters() and consecutive(made.get_chunk(), open_().shape[1:])
        placed = self._is_placed(name)
        if placed:
            self._places[name] = _places(made.get_chunk(), open_().shape[1:])
        if placed and made.get_nfilters():
            return PlacedDataset(open_, self._workers, None, None)
        if plain or placed:
            return PlainDataset(open_())
        return CompressedDataset(open_, self._workers, kept, rows_max)

    def _is_placed(self, name: str) -> bool:
        records = layout.records_path(name).encode()
        return bool(
            self._file is not None
            and not name.startswith(layout.GROUP + "/")
            and h5a.exists(h5d.open(self._file, records), layout.PLACED.encode())
        )

    def _names(self) -> list[str]:
        found: list[str] = []
        root = h5py.Group(h5py.h5g.open(self._file, b"/"))

        def visit(name: str, item: h5py.HLObject) -> None:
            path = f"{layout.GROUP}/{name}"
            if not isinstance(item, h5py.Dataset):
                return
            if layout.is_records(path):
                found.extend([layout.dataset_path(path), path])
            elif path.endswith("/key"):
                found.append(path)

        if layout.GROUP in root:
            root[layout.GROUP].visititems(visit)
        return found

    def is_there(self) -> bool:
        """Whether the file that is open is still the one at ``path``; so too if none is."""
        return self._file is None or _is_there(self.path, self._file.get_vfd_handle())

    def _check_is_ours(self) -> None:
        if self._file is not None:
            _check_is_there(self.path, self._file.get_vfd_handle())


def _places(chunk: tuple[int, ...], row_shape: tuple[int, ...]) -> int:
    """How many rows a placed dataset may have."""
    side_by_side = math.prod(-(-n // m) for n, m in zip(row_shape, chunk[1:], strict=True))
    return min(_PLACES_MAX, _CHUNKS_MAX // side_by_side * chunk[0])


class _Barrier:
    """``fsync`` of an open file, in whatever thread, also if it was closed since."""

    def __init__(self, path: Path, fd: int | None) -> None:
        self._path = path
        self._fd = None if fd is None else os.dup(fd)

    def __call__(self) -> None:
        if self._fd is not None:
            _fsync(self._path, self._fd)
            _check_is_there(self._path, self._fd)
            self.__del__()

    def __del__(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _fsync(path: Path, fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        raise SyncFailed(f"{path}: {error.strerror}") from error


def _is_there(path: Path, fd: int) -> bool:
    ours = os.fstat(fd)
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _check_is_there(path: Path, fd: int) -> None:
    """Refuse to go on where the file that is open is not the one at ``path`` any more."""
    if not _is_there(path, fd):
        raise BrokenInvariant(
            f"{path}: the output was removed or replaced while it was being written. "
            "Put the file back and start again; rows not yet committed are still in the "
            "drop directories"
        )


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
