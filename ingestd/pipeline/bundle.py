"""Many small files alike, decoded together: the fast path. It gives what the general one would.

Once the general path has taken a file whose rows stand in it as they will in the dataset, others
whose header is the same to the byte need no decoding: their bytes are read to where the rows are
gathered. Whatever differs in any way is left to the general path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xxhash

from ingestd.config import Source
from ingestd.model import DropFile, RowType
from ingestd.pipeline.settle import lease

SMALL_BYTES = 64 << 10
"""Larger files gain nothing here."""

_LIKES_MAX = 64
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Like:
    """What files of one suffix and size held: ``rows`` rows of ``dataset`` after ``header``."""

    header: bytes
    dataset: str
    type: RowType
    rows: int

    @property
    def data_bytes(self) -> int:
        """Bytes of one file's rows, 1 or more."""
        return self.rows * self.type.row_bytes


class Likes:
    """The files seen, by what tells them apart at a glance. Shared by the decoding threads."""

    def __init__(self) -> None:
        self._likes: dict[tuple[str, str, int], Like] = {}

    def of(self, file: DropFile) -> Like | None:
        """What ``file`` holds if its header proves to be the same."""
        return self._likes.get(_key(file))

    def learn(self, file: DropFile, like: Like) -> None:
        """``file`` was taken by the general path: take others like it together."""
        if len(self._likes) >= _LIKES_MAX:
            self._likes.clear()
        self._likes[_key(file)] = like


def _key(file: DropFile) -> tuple[str, str, int]:
    # The suffix, since the format may be chosen by it.
    return file.source, file.name.rpartition(".")[2], file.fingerprint.size


def read_alike(
    source: Source, files: Iterable[DropFile], like: Like, rows: np.ndarray
) -> list[tuple[str, str]]:
    """Read the rows of ``files`` one after the other into ``rows``, up to one that is not alike.

    Gives the digests of each: of its bytes, and of its rows.
    """
    target, step = rows.reshape(-1).view(np.uint8).data, like.data_bytes
    header = bytearray(len(like.header))
    begun = xxhash.xxh3_128(like.header)
    leased = source.settle.kind == "closed"
    digests = []
    directory = os.open(source.drop, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, file in enumerate(files):
            data = target[number * step : (number + 1) * step]
            try:
                if not _read(directory, file, [header, data], leased):
                    break
            except OSError:
                break
            if header != like.header:
                break
            whole = begun.copy()
            whole.update(data)
            digests.append((whole.hexdigest(), xxhash.xxh3_128_hexdigest(data)))
    finally:
        os.close(directory)
    return digests


def _read(
    directory: int, file: DropFile, parts: list[bytearray | memoryview], leased: bool
) -> bool:
    """Fill ``parts``; whether all of it is there, and is the very file that was seen, settled."""
    there = file.fingerprint
    fd = os.open(file.name, _FLAGS, dir_fd=directory)
    try:
        # Given back when it is closed, in some microseconds.
        if leased:
            lease(fd)
        if os.readv(fd, parts) != there.size:
            return False
        # After the read: it is then the same as when it was seen before.
        found = os.fstat(fd)
        return (
            found.st_size == there.size
            and found.st_mtime_ns == there.mtime_ns
            and found.st_ino == there.inode
            and stat.S_ISREG(found.st_mode)
        )
    finally:
        os.close(fd)
