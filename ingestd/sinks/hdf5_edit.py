"""Changes to an HDF5 file that are made whole or not at all, whatever dies and when.

HDF5 writes its metadata in place and in any order, so a crash while a dataset is made or cut
can ruin the file. Here HDF5 works on an overlay: it reads the file and writes to memory. The
few kilobytes that it wrote become a journal beside the file (write, fsync, rename), and only
then go into the file. A journal that is found later is simply applied again.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py
import xxhash

from ingestd.disk import sync_directory
from ingestd.errors import SyncFailed

LIBVER = ("v110", "v114")
"""Format bounds: SWMR-capable, and readable by HDF5 1.10 also when compressed."""

_MAGIC = b"ingestd edit 1\n"
_WRITE = struct.Struct("<QQ")
_HEAD = 48
"""Bytes of the superblock, by which a journal knows its file: as before the edit, or after it."""


@contextlib.contextmanager
def edit(path: Path) -> Iterator[h5py.File]:
    """A closed file opened for any change; it takes effect, all of it, when the block ends.

    Readers that are attached carry on. Only metadata should be written: it is held in memory.
    """
    with open_overlay(path) as overlay:
        before = overlay.head()
        with h5py.File(overlay, "r+", libver=LIBVER) as file:
            yield file
        after = overlay.head()
    writes = [(offset, _final(offset, data, after)) for offset, data in overlay.writes]
    _write_journal(journal_path(path), before + after, writes)
    replay(path)


@contextlib.contextmanager
def open_overlay(path: Path) -> Iterator[_Overlay]:
    """The file at ``path`` as one that h5py can open and write, to no effect."""
    with path.open("rb") as base:
        yield _Overlay(base.fileno())


def journal_path(path: Path) -> Path:
    """Where the journal of ``path`` stands while an edit is under way."""
    return path.with_name(f".{path.name}.edit")


def replay(path: Path) -> bool:
    """Apply the journal beside ``path``, if there is one that belongs to it; whether it did.

    Applying twice is harmless, so a crash on any line here is mended by the next call.
    """
    journal = journal_path(path)
    try:
        data = journal.read_bytes()
    except FileNotFoundError:
        return False
    body, digest = data[len(_MAGIC) : -8], data[-8:]
    # The rename came after the fsync, so a journal is whole, or the disk lied.
    whole = data.startswith(_MAGIC) and xxhash.xxh3_64_digest(body) == digest
    applied = whole and path.exists() and _apply(path, body)
    journal.unlink()
    # Before the file is written again: a journal that came back would undo what was written since.
    sync_directory(path.parent)
    return applied


def _final(offset: int, data: bytes, head: bytes) -> bytes:
    """``data`` with the superblock in it as it will be: it changes in one step, so that a half
    applied journal still knows its file."""
    return (head[offset:] + data[max(0, _HEAD - offset) :])[: len(data)]


def _apply(path: Path, body: bytes) -> bool:
    with path.open("r+b", buffering=0) as file:
        # A file that was put in this one's place since then is not what the journal is about.
        if os.pread(file.fileno(), _HEAD, 0) not in (body[:_HEAD], body[_HEAD : 2 * _HEAD]):
            return False
        at = 2 * _HEAD
        while at < len(body):
            offset, length = _WRITE.unpack_from(body, at)
            at += _WRITE.size
            _pwrite(file.fileno(), body[at : at + length], offset)
            at += length
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise SyncFailed(f"{path}: {error.strerror}") from error
    return True


def _write_journal(journal: Path, heads: bytes, writes: list[tuple[int, bytes]]) -> None:
    body = heads + b"".join(_WRITE.pack(offset, len(data)) + data for offset, data in writes)
    temporary = journal.with_name(journal.name + ".part")
    with temporary.open("wb") as file:
        file.write(_MAGIC + body + xxhash.xxh3_64_digest(body))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(journal)
    sync_directory(journal.parent)


def _pwrite(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


class _Overlay(io.RawIOBase):
    """A file as h5py's file-object driver wants it: reads through, keeps writes in memory."""

    def __init__(self, base: int) -> None:
        self.writes: list[tuple[int, bytes]] = []
        self._base = base
        self._size = os.fstat(base).st_size
        self._at = 0

    def head(self) -> bytes:
        """The superblock as it is now."""
        head = bytearray(_HEAD)
        self.seek(0)
        self.readinto(head)
        return bytes(head)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._at + len(view), self._size)
        if stop <= start:
            return 0
        data = bytearray(os.pread(self._base, stop - start, start))
        data += bytes(stop - start - len(data))
        for offset, written in self.writes:
            low, high = max(offset, start), min(offset + len(written), stop)
            if low < high:
                data[low - start : high - start] = written[low - offset : high - offset]
        view[: len(data)] = data
        self._at = stop
        return len(data)

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        self.writes.append((self._at, bytes(data)))
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        # Readers may be attached: the file keeps its length, what lies beyond HDF5's end is free.
        return self._size if size is None else size
