"""Decodes drop files in threads: a file becomes blocks of rows, slab by slab.

Whatever a file holds, it ends as Decoded, Failed or NotYet; it takes no more memory than the
reorder buffer grants, and never harms the process.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import xxhash

from ingestd.config import Source
from ingestd.errors import BadFile
from ingestd.formats import OpenFile
from ingestd.journal import log
from ingestd.model import (
    Block,
    Decoded,
    DropFile,
    Ending,
    Failed,
    Fingerprint,
    Message,
    NotYet,
    Opened,
    RowType,
)
from ingestd.pipeline.plan import cast, open_as_format, plan_rows
from ingestd.pipeline.reorder import Closed, Reorder
from ingestd.pipeline.settle import GRACE_SECONDS, age_seconds, open_wait_seconds

SLAB_BYTES_MAX = 4 << 20
_OUT_OF_REACH_SECONDS = 5.0
_DIGEST_BYTES = 1 << 20


class Decoder:
    """Decodes one file at a time and says all of it to the reorder buffer."""

    def __init__(self, sources: Mapping[str, Source], reorder: Reorder, memory: int) -> None:
        self._sources = sources
        self._reorder = reorder
        self._row_bytes_max = memory // 2
        self._slab_bytes = min(SLAB_BYTES_MAX, memory // 16)
        self._unsaid: list[Message] = []

    def decode(self, ticket: int, file: DropFile) -> None:
        """Say everything of ``file``, up to its ending.

        :raises Closed: the flow is stopping.
        """
        source = self._sources[file.source]
        try:
            # Most files are one slab: then nothing is said before all of it is right.
            self._unsaid.clear()
            for message in self._messages(ticket, source, file):
                if isinstance(message, Block) and self._unsaid_bytes():
                    self._say(ticket)
                self._unsaid.append(message)
            self._say(ticket)
        except Closed:
            raise
        except BadFile as error:
            self._drop(ticket)
            self._reorder.put(ticket, _young(source, file, error))
        except OSError as error:
            self._drop(ticket)
            self._reorder.put(ticket, _world(source, file, error))
        except MemoryError:
            self._drop(ticket)
            why = NotYet(_OUT_OF_REACH_SECONDS, "no memory to read it")
            self._reorder.put(ticket, why)
        except Exception as error:  # noqa: BLE001 - a bug that one file trips over stops no other
            log.exception("a format failed in a way it should not: %s", file)
            bad = BadFile(
                "a file that its format can read or refuse",
                f"{type(error).__name__}: {error}",
                "Please report this with the file; it is unharmed",
            )
            self._drop(ticket)
            self._reorder.put(ticket, Failed(bad))

    def _unsaid_bytes(self) -> int:
        return sum(m.rows.nbytes for m in self._unsaid if isinstance(m, Block))

    def _say(self, ticket: int) -> None:
        self._reorder.put(ticket, *self._unsaid)
        self._unsaid.clear()

    def _drop(self, ticket: int) -> None:
        self._reorder.release(ticket, self._unsaid_bytes())
        self._unsaid.clear()

    def _reserve(self, ticket: int, nbytes: int) -> None:
        # What is not said cannot be written: with it, too, the head of the line has to fit into
        # its half of the bytes, or it would wait for files that wait for it.
        if self._unsaid_bytes() + nbytes > self._row_bytes_max:
            self._say(ticket)
        self._reorder.reserve(ticket, nbytes)

    def _messages(self, ticket: int, source: Source, drop_file: DropFile) -> Iterator[Message]:
        fd = os.open(
            source.drop / drop_file.name,
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        )
        try:
            _refuse_special(os.fstat(fd))
        except BadFile:
            os.close(fd)
            raise
        with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
            wait = open_wait_seconds(source.settle, fd)
            if wait:
                yield NotYet(wait, "somebody is writing it")
                return
            if Fingerprint.of(os.fstat(fd)) != drop_file.fingerprint:
                yield NotYet(0.0, "it has changed", soon=True)
                return
            yield from self._content(ticket, source, drop_file, file)

    def _content(
        self, ticket: int, source: Source, drop_file: DropFile, file: BinaryIO
    ) -> Iterator[Message]:
        digest = _digest(file)
        file.seek(0)
        opened = open_as_format(source, drop_file.name, file)
        plan = plan_rows(source, opened.members)
        for dataset, (member, row_type) in plan.items():
            read = opened.members[member].dtype
            self._refuse_row(member, row_type)
            if not source.datasets[dataset].stack:
                self._refuse_row(member, RowType(read, row_type.row_shape))
        yield Opened(digest, {dataset: row_type for dataset, (_, row_type) in plan.items()})
        digests = {}
        for dataset, (member, row_type) in plan.items():
            hasher = xxhash.xxh3_128()
            stack = source.datasets[dataset].stack
            for rows in self._rows(ticket, opened, member, row_type, stack):
                hasher.update(rows.reshape(-1).view(np.uint8).data)
                yield Block(dataset, rows)
            digests[dataset] = hasher.hexdigest()
        if Fingerprint.of(os.fstat(file.fileno())) != drop_file.fingerprint:
            yield NotYet(0.0, "it changed while it was read", soon=True)
            return
        yield Decoded(digests)

    def _refuse_row(self, member: str, row_type: RowType) -> None:
        if row_type.row_bytes > self._row_bytes_max:
            raise BadFile(
                f"rows of {self._row_bytes_max} bytes or less (half of 'memory')",
                f"'{member}' has rows of {row_type.row_bytes} bytes",
                f"Set 'memory: {2 * row_type.row_bytes // 2**20 + 1}MiB' or more",
            )

    def _rows(
        self, ticket: int, opened: OpenFile, member: str, row_type: RowType, stack: bool
    ) -> Iterator[np.ndarray]:
        """The member's rows in slabs, their bytes reserved and of the dataset's type."""
        # What is asked for fits the bound also once it is cast to a wider dtype.
        wider = -(-row_type.dtype.itemsize // opened.members[member].dtype.itemsize)
        slabs = opened.slabs(member, self._slab_bytes // wider, row_type.dtype)
        if stack:
            slabs = _stacked(slabs, row_type)
        slab_bytes = max(self._slab_bytes, row_type.row_bytes)
        while True:
            self._reserve(ticket, slab_bytes)
            used = 0
            try:
                slab = next(slabs, None)
                if slab is None:
                    return
                rows = cast(slab, row_type.dtype)
                assert rows.nbytes <= slab_bytes, "a format gave more than it was asked for"
                used = rows.nbytes
            finally:
                self._reorder.release(ticket, slab_bytes - used)
            yield rows


def _stacked(slabs: Iterator[np.ndarray], row_type: RowType) -> Iterator[np.ndarray]:
    """All of ``slabs`` as one row."""
    row = np.empty((1, *row_type.row_shape), row_type.dtype)
    if not row_type.row_shape:
        for slab in slabs:
            row[0] = cast(slab, row_type.dtype).reshape(())
        yield row
        return
    at = 0
    for slab in slabs:
        row[0, at : at + len(slab)] = cast(slab, row_type.dtype)
        at += len(slab)
    yield row


def _digest(file: BinaryIO) -> str:
    hasher = xxhash.xxh3_128()
    size = os.fstat(file.fileno()).st_size
    view = memoryview(bytearray(min(size, _DIGEST_BYTES)))
    while n := file.readinto(view):  # type: ignore[attr-defined]
        hasher.update(view[:n])
    return hasher.hexdigest()


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


def _young(source: Source, file: DropFile, error: BadFile) -> Ending:
    """A failure is final once the file has been quiet; till then it may still be written."""
    try:
        age = age_seconds((source.drop / file.name).lstat())
    except FileNotFoundError:
        return NotYet(0.0, "it is gone")
    except OSError as gone:
        return NotYet(_OUT_OF_REACH_SECONDS, f"it cannot be looked at now: {gone.strerror}")
    if age < GRACE_SECONDS:
        return NotYet(GRACE_SECONDS - age, str(error), soon=True)
    return Failed(error)


def _world(source: Source, file: DropFile, error: OSError) -> Ending:
    """What an OSError tells of the file: bad, gone, or out of reach for now."""
    if error.errno == errno.ENOENT:
        return NotYet(0.0, "it is gone")
    if error.errno in (errno.ELOOP, errno.EMLINK):
        bad = BadFile(
            "a regular file",
            "a symbolic link, which is not followed",
            "Drop the file itself, or a hard link to it",
        )
    elif error.errno == errno.EACCES:
        bad = BadFile(
            "a file that may be read",
            "no permission to read it",
            f"Make it readable (chmod a+r), then: ingestd retry {file}",
        )
    elif error.errno == errno.ENXIO:
        bad = BadFile("a regular file", "a socket or a device", "Drop plain files only")
    else:
        return NotYet(_OUT_OF_REACH_SECONDS, f"it cannot be read now: {error.strerror}")
    return _young(source, file, bad)
