"""What stands between a drop file and a third-party library that reads it.

Whatever the library raises becomes a BadFile, and what the disk says stays what it is.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from ingestd.errors import BadFile, brief

UNPACKED_BYTES_FREE = 64 * 1024 * 1024
"""Up to this size any ratio of compression is taken."""

RATIO_MAX = 1000


class LibraryFile(io.RawIOBase):
    """A drop file as libraries want one: a read is whole, and never larger than the file.

    ``failure`` is what the disk said, which a library may hide or call something else.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = file.seek(0, 2)
        self.failure: OSError | None = None
        file.seek(0)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        target, filled = memoryview(buffer).cast("B"), 0
        try:
            while filled < len(target):
                count = self._file.readinto(target[filled:])  # type: ignore[attr-defined]
                if not count:
                    break
                filled += count
        except OSError as error:
            self.failure = error
            raise
        return filled

    def read(self, count: int | None = -1) -> bytes:
        left = max(0, self.size_bytes - self.tell())
        wanted = left if count is None or count < 0 else min(count, left)
        data = bytearray(wanted)
        del data[self.readinto(data) :]
        return bytes(data)

    def read_at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on, fewer where the file ends."""
        self.seek(offset)
        return self.read(count)

    def fill(self, offset: int, target: np.ndarray) -> int:
        """Read into all of ``target`` from ``offset`` on; how many bytes there were."""
        self.seek(offset)
        return self.readinto(target.reshape(-1).view(np.uint8).data) if target.nbytes else 0

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:
            offset, whence = offset + self.size_bytes, 0
        if offset < 0 and whence == 0:  # as of any file: zipfile tries, and waits for this
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def library_errors(file: LibraryFile, expected: str, remedy: str) -> Iterator[None]:
    """Run library code: its errors become BadFile, its warnings are not shown.

    :raises OSError: the disk failed meanwhile, whatever the library made of that.
    """
    try:
        with _no_warnings():
            yield
    # Libraries raise anything at all on damaged files. MemoryError is one of the things: sizes
    # are checked before, so what is left of it are lengths that only a damaged file claims.
    except Exception as error:
        if file.failure is not None:
            raise file.failure from error
        if isinstance(error, BadFile):
            raise
        if isinstance(error, ImportError):
            raise BadFile(
                "the libraries of its format",
                f"it cannot be read without one of them ({brief(error)})",
                "Install the format's extra, or all of them (pip install 'ingestd[all]'), then: "
                "ingestd retry.",
            ) from error
        raise BadFile(expected, f"it cannot be read ({brief(error)})", remedy) from error
    if file.failure is not None:
        raise file.failure


def check_ratio(unpacked_bytes: int, packed_bytes: int, ratio_max: int, format_: str) -> None:
    """Refuse ``packed_bytes`` that promise more than anybody's data would.

    :raises BadFile: above 64 MiB there are more than ``ratio_max`` bytes for each packed one.
    """
    if unpacked_bytes > max(UNPACKED_BYTES_FREE, packed_bytes * ratio_max):
        raise BadFile(
            f"{ratio_max:,} bytes or fewer for each byte in the file ('ratio_max')",
            f"{packed_bytes:,} bytes promise {unpacked_bytes:,}",
            "It may be damaged, or a decompression bomb. If the data is meant to be so, set "
            f"'format: {format_}' and a larger 'ratio_max' in 'options', then drop it again.",
        )


class _Quiet:
    """``warnings`` has one list of filters for all threads: the first in saves it, the last out
    puts it back."""

    lock = threading.Lock()
    inside = 0
    saved: warnings.catch_warnings[None] | None = None


@contextmanager
def _no_warnings() -> Iterator[None]:
    if getattr(sys.flags, "context_aware_warnings", False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    with _Quiet.lock:
        if not _Quiet.inside:
            _Quiet.saved = warnings.catch_warnings()
            _Quiet.saved.__enter__()
            warnings.simplefilter("ignore")
        _Quiet.inside += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.inside -= 1
            if not _Quiet.inside and _Quiet.saved is not None:
                _Quiet.saved.__exit__(None, None, None)
                _Quiet.saved = None


class LoggedErrors(logging.Filter):
    """For a library that logs what it should raise: keeps its records of this thread."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        kept: list[str] | None = getattr(self._local, "kept", None)
        if kept is None:
            return True
        if record.levelno >= logging.ERROR:
            kept.append(record.getMessage())
        return False

    @contextmanager
    def raised(self, logger: str) -> Iterator[None]:
        """Let nothing through of what ``logger`` is told inside, and raise its first error.

        :raises ValueError: an error was logged.
        """
        logging.getLogger(logger).addFilter(self)  # once only, however often it is called
        kept: list[str] = []
        self._local.kept = kept
        try:
            yield
        finally:
            self._local.kept = None
        if kept:
            raise ValueError(kept[0])
