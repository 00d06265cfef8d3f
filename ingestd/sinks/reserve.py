"""Disk space kept allocated ahead of an output's end: a full disk is met before a write fails.

It lies beyond the end of the file, whose size never changes by it: HDF5, and a repair, go by that.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from logging import WARNING
from pathlib import Path

from ingestd.errors import BusyWorld
from ingestd.journal import event

_FALLOC_FL_KEEP_SIZE = 1
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_SLACK_BYTES = 1 << 20
"""A file may take so much more than its size without a reserve: the file system's own notes."""


class Reserve:
    """``nbytes`` ahead of the end of the file at ``path``, as one writer sees it; 0: none.

    Allocated anew, in one step, when less than half of it is left.
    """

    def __init__(self, path: Path, nbytes: int) -> None:
        self._path = path
        self._nbytes = nbytes
        self._file: tuple[int, int] | None = None  # device and inode, while it is held
        self._size = self._end = self._coming = 0

    def take(self) -> None:
        """Allocate it for a file that is about to be opened, with what a crash left of an old one.

        :raises BusyWorld: there is no room; nothing is held then.
        """
        found = self._path.stat()
        if found.st_blocks * 512 > found.st_size + self._nbytes + _SLACK_BYTES:
            # A crash left more than is wanted now.
            self._open_and(lambda fd: os.ftruncate(fd, os.fstat(fd).st_size))
        self._file = (found.st_dev, found.st_ino)
        self._end = 0
        try:
            self.top_up()
        except BusyWorld:
            # What was allocated before the disk was full: while we wait, it is for others.
            self.give_back()
            raise

    def ahead_of(self, nbytes: int) -> None:
        """So many bytes are about to be appended: they, and half of the reserve, have room.

        :raises BusyWorld: there is no room.
        """
        self._coming += nbytes
        if self._nbytes and self._end - self._size - self._coming < self._nbytes // 2:
            self.top_up(nbytes)

    def top_up(self, coming: int = 0) -> None:
        """Look at the file as it is now, and allocate if ``coming`` bytes would leave too little.

        :raises BusyWorld: there is no room. What is left is held, so that the file can be closed.
        """
        if not self._nbytes or (found := self._stat()) is None:
            return
        self._size, self._coming = found.st_size, coming
        if self._end - self._size - coming >= self._nbytes // 2:
            return
        wanted = coming + self._nbytes
        try:
            self._refuse_if_full(wanted - max(0, found.st_blocks * 512 - found.st_size))
            self._open_and(lambda fd: _allocate(fd, self._size, wanted))
            self._end = self._size + wanted
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                self._nbytes = 0
                _say_unsupported(self._path)
            elif error.errno in _NO_ROOM:
                raise BusyWorld(
                    f"{self._path}: {os.strerror(error.errno)} for its reserve of "
                    f"{self._nbytes / 2**20:.0f} MiB"
                ) from error
            else:
                raise

    def give_back(self) -> None:
        """Leave the file with what it fills. Twice is harmless."""
        if self._nbytes and self._stat() is not None:
            # To the size that it has: this frees what lies beyond the end.
            self._open_and(lambda fd: os.ftruncate(fd, os.fstat(fd).st_size))
        self._file = None

    def _stat(self) -> os.stat_result | None:
        """The file, unless it is not held, or another stands in its place."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found if (found.st_dev, found.st_ino) == self._file else None

    def _refuse_if_full(self, missing: int) -> None:
        """Not even for a moment is the last block taken from the others on this disk."""
        disk = os.statvfs(self._path)
        if disk.f_bavail * disk.f_frsize < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)

    def _open_and(self, act: Callable[[int], None]) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            act(fd)
        finally:
            os.close(fd)


@cache
def _say_unsupported(path: Path) -> None:
    """Once in the life of the process."""
    event(WARNING, "the file system cannot allocate ahead: going on without reserve", output=path)


def _allocate(fd: int, offset: int, nbytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    # posix_fallocate, which Python has, changes the file's size.
    call = libc.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    while call(fd, _FALLOC_FL_KEEP_SIZE, offset, nbytes):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
