"""The open files of this process and their datasets: one handle on each, however many read it.

HDF5 2.0 answers wrong rows, and no error, after a refresh of a dataset that is open twice in one
process (https://github.com/h5py/h5py/issues/2803). So readers share handles, and a refresh beside
somebody else's handle is refused.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import h5py
from h5py import h5f, h5i

from ingestd import layout
from ingestd.errors import IngestdError
from ingestd.model import shown
from ingestd.tail.opening import NotAnOutput, named, need_filters, opened

Identity = tuple[int, int]
"""Device and inode: what a file is, whatever it is called."""


class OtherHandle(IngestdError):
    """The dataset is open in this process by other means, so HDF5 cannot be trusted with it."""


class Handles:
    """One file, open for reading, and the datasets of it that are in use with their records.

    Got by :meth:`take`; each taker calls :meth:`release` once.
    """

    _all: dict[Identity, Handles] = {}  # noqa: RUF012
    _lock = threading.Lock()

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.file = file
        self.identity = _identity(os.fstat(file.id.get_vfd_handle()))
        self._users = 0
        self._pairs: dict[str, tuple[h5py.Dataset, h5py.Dataset]] = {}

    @classmethod
    def take(cls, path: Path, patience_seconds: float) -> Handles:
        """Those on the file at ``path``; it is opened if it is not open yet.

        Raises what :func:`ingestd.tail.opening.opened` does.
        """
        with cls._lock:
            handles = cls._all.get(identity) if (identity := identity_at(path)) else None
            if handles is not None:
                handles._users += 1
                return handles
        # Without the lock, since it may take a while. That two do it at once is harmless, as no
        # dataset is open twice.
        new = cls(path, opened(path, patience_seconds))
        with cls._lock:
            handles = cls._all.setdefault(new.identity, new)
            handles._users += 1
        if handles is not new:
            new.file.close()
        return handles

    def release(self) -> None:
        """One user fewer; the last closes the file."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                del self._all[self.identity]
                self._pairs.clear()
                self.file.close()

    def pair(self, dataset: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        """The records of ``dataset``, which is there, and the dataset: as they are now."""
        with self._lock:
            if dataset in self._pairs:
                self._refresh(dataset)
            else:
                self._pairs[dataset] = self._opened(dataset)
            return self._pairs[dataset]

    def refresh(self, dataset: str) -> None:
        """Look again at ``dataset`` and its records.

        :raises OtherHandle: HDF5 would give wrong rows then.
        """
        with self._lock:
            self._refresh(dataset)

    def _refresh(self, dataset: str) -> None:
        self._refuse_if_open_twice(dataset)
        records, rows = self._pairs[dataset]
        # Records first. The writer flushes rows before the record that names them, so rows
        # looked at after a record hold all that it names; the other way round they may not.
        records.refresh()
        rows.refresh()

    def _opened(self, dataset: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        where = f"{named(self.path)}:{shown(dataset)}"
        # Records first, for the reason given above.
        records, rows = self.file[layout.records_path(dataset)], self.file[dataset]
        if records.dtype != layout.RECORD:
            raise NotAnOutput(
                f"{where}: its records are of another layout. "
                "Read it with the version of ingestd that wrote it"
            )
        need_filters(rows, where)
        return records, rows

    def _refuse_if_open_twice(self, dataset: str) -> None:
        if h5f.get_obj_count(self.file.id, h5f.OBJ_DATASET) == 2 * len(self._pairs):
            return
        ids = h5f.get_obj_ids(self.file.id, h5f.OBJ_DATASET)
        names = [h5i.get_name(each) for each in ids]
        for name in (dataset, layout.records_path(dataset)):
            if names.count(name.encode()) > 1:
                raise OtherHandle(
                    f"{named(self.path)}:{shown(name)}: is open in this process by other means; "
                    "after a refresh HDF5 would give wrong rows (h5py issue 2803). "
                    "Close that, or read in a process of its own"
                )


def identity_at(path: Path) -> Identity | None:
    """What stands at ``path``; None: nothing does."""
    try:
        return _identity(path.stat())
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
