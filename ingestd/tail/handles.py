"""The open files of this process and their datasets: one handle on each, however many read it.

HDF5 2.0 answers wrong rows, and no error, after a refresh of a dataset that is open twice in one
process (https://github.com/h5py/h5py/issues/2803). So readers share handles; those of plain h5py
are apart from them (see :mod:`ingestd.tail.opening`).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ingestd import layout
from ingestd.model import shown
from ingestd.tail.opening import NotAnOutput, named, need_filters, opened

Identity = tuple[int, int]
"""Device and inode: what a file is, whatever it is called."""


class Live(NamedTuple):
    """A dataset, its records, and whether its rows are placed (see :data:`layout.PLACED`)."""

    records: h5py.Dataset
    rows: h5py.Dataset
    placed: bool


class Handles:
    """One file, open for reading, and the datasets of it that are in use with their records.

    Got by :meth:`take`; each taker calls :meth:`release` once. A forked child must not use those
    of its parent: they are ``inherited`` there, and taken anew.
    """

    _all: dict[Identity, Handles] = {}  # noqa: RUF012
    _parents: list[Handles] = []  # noqa: RUF012
    _abandoned: list[Handles] = []  # noqa: RUF012
    _lock = threading.Lock()

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.file = file
        self._pid = os.getpid()
        self.fd: int = file.id.get_vfd_handle()
        self.identity = _identity(os.fstat(self.fd))
        self._users = 0
        self._live: dict[str, Live] = {}

    @classmethod
    def take(cls, path: Path, patience_seconds: float) -> Handles:
        """Those on the file at ``path``; it is opened if it is not open yet.

        Raises what :func:`ingestd.tail.opening.opened` does.
        """
        with cls._lock:
            # Before the file is opened again: HDF5 would go on with what the parent had of it.
            while cls._parents:
                cls._parents.pop().file.close()
            while cls._abandoned:
                cls._abandoned.pop()._release()
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
            self._release()

    def abandon(self) -> None:
        """The same, as the garbage collector may do it: anywhere, also where the lock is held."""
        if not self._lock.acquire(blocking=False):
            self._abandoned.append(self)
            return
        try:
            self._release()
        finally:
            self._lock.release()

    def _release(self) -> None:
        if self.inherited:
            return
        self._users -= 1
        if self._users == 0:
            del self._all[self.identity]
            self._live.clear()
            self.file.close()

    @property
    def inherited(self) -> bool:
        """Whether these are the parent's, in a forked child."""
        return self._pid != os.getpid()

    @classmethod
    def forget_parents(cls) -> None:
        """What a forked child does first: the lock may be held by a thread that is not there."""
        cls._lock = threading.Lock()
        cls._parents += cls._all.values()
        cls._all = {}

    def datasets(self) -> tuple[str, ...] | None:
        """The datasets that have records; None: the file is none of ours."""
        found: list[str] = []

        def visit(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset) and layout.is_records(name):
                found.append(layout.dataset_path(f"{layout.GROUP}/{name}"))

        # Under the lock, since a refresh must not come upon what is open while we look.
        with self._lock:
            if layout.GROUP not in self.file:
                return None
            self.file[layout.GROUP].visititems(visit)
        return tuple(sorted(found))

    def live(self, dataset: str) -> Live:
        """``dataset``, which is there, and its records: as they are now."""
        with self._lock:
            if dataset in self._live:
                self._refresh(dataset)
            else:
                self._live[dataset] = self._opened(dataset)
            return self._live[dataset]

    def refresh(self, dataset: str) -> None:
        """Look again at ``dataset`` and its records."""
        with self._lock:
            self._refresh(dataset)

    def _refresh(self, dataset: str) -> None:
        records, rows, _ = self._live[dataset]
        # Records first. The writer flushes rows before the record that names them, so rows
        # looked at after a record hold all that it names; the other way round they may not.
        records.refresh()
        rows.refresh()

    def _opened(self, dataset: str) -> Live:
        where = f"{named(self.path)}:{shown(dataset)}"
        # Records first, for the reason given above.
        records, rows = self.file[layout.records_path(dataset)], self.file[dataset]
        if not _readable(records.dtype):
            raise NotAnOutput(
                f"{where}: its records are of another layout. "
                "Read it with the version of ingestd that wrote it"
            )
        need_filters(rows, where)
        return Live(records, rows, layout.PLACED in records.attrs)


os.register_at_fork(after_in_child=Handles.forget_parents)


def _readable(dtype: np.dtype) -> bool:
    """Whether records have all the fields that we know; what they captured is optional."""
    names = dtype.names or ()
    return all(
        name == "captures" or (name in names and dtype[name] == layout.RECORD[name])
        for name in layout.RECORD.names or ()
    )


def identity_at(path: Path) -> Identity | None:
    """What stands at ``path``; None: nothing does."""
    try:
        return _identity(path.stat())
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
