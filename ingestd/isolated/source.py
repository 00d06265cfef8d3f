"""The file that a reading child is given, as libraries want one.

It is read by place, so that nobody else who has it open notices, and never past its end.
"""

from __future__ import annotations

import io
import os


class Source(io.RawIOBase):
    """The regular file of ``fd``, which stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd, self._at = fd, 0

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        target, filled = memoryview(buffer).cast("B"), 0
        while filled < len(target):
            count = os.preadv(self._fd, [target[filled:]], self._at)
            if not count:
                break
            filled += count
            self._at += count
        return filled

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (os.fstat(self._fd).st_size if base is None else base)
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
