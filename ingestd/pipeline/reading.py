"""A drop file, open for reading: its bytes are digested as they are read, so they are read once."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import xxhash

from ingestd.errors import BadFile

_PIECE_BYTES = 64 << 10


class DropReader(io.RawIOBase):
    """An unbuffered binary file, as formats want it. Links are not followed, nor pipes waited for.

    :raises BadFile: it is not a regular file.
    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        self._at = 0
        self._digested = 0
        self._hasher = xxhash.xxh3_128()
        try:
            _refuse_special(self.stat())
        except BadFile:
            self.close()
            raise

    def stat(self) -> os.stat_result:
        """What the kernel says of it now."""
        return os.fstat(self._fd)

    def digest(self) -> str:
        """xxh3-128, hex, of all its bytes; what was not yet read in order is read for it."""
        at, piece = self._at, memoryview(bytearray(_PIECE_BYTES))
        self._at = self._digested
        while self.readinto(piece):
            pass
        self._at = at
        return self._hasher.hexdigest()

    def forget(self) -> None:
        """Give the memory in which the kernel keeps what stands before here to what is written."""
        if self._at:  # 0 would be all of it
            os.posix_fadvise(self._fd, 0, self._at, os.POSIX_FADV_DONTNEED)

    # io.RawIOBase

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._fd, [buffer], self._at)
        start, self._at = self._at, self._at + count
        if start <= self._digested < self._at:
            self._hasher.update(memoryview(buffer).cast("B")[self._digested - start : count])
            self._digested = self._at
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        at = offset + (self.stat().st_size if base is None else base)
        if at < 0:
            raise ValueError(f"position {at} is before the file's start")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


def _refuse_special(status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        names = {
            stat.S_IFDIR: "a directory",
            stat.S_IFIFO: "a named pipe",
            stat.S_IFSOCK: "a socket",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
        }
        raise BadFile("a regular file", names.get(kind, "something else"), "Drop plain files only")
