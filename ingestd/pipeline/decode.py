"""Decodes drop files in threads: a file becomes blocks of rows, slab by slab.

Whatever a file holds, it ends as Decoded, Failed or NotYet; it takes no more memory than the
reorder buffer grants, and never harms the process.
"""

from __future__ import annotations

import errno
import os
import time
import typing
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, takewhile
from typing import BinaryIO

import numpy as np
import xxhash

from ingestd.config import Captures, Source
from ingestd.disk import device
from ingestd.errors import BadFile
from ingestd.formats import OpenFile
from ingestd.journal import log
from ingestd.model import (
    Block,
    Bundle,
    Decoded,
    DropFile,
    Ending,
    Failed,
    Fingerprint,
    Message,
    NotYet,
    Opened,
    RowType,
    Task,
)
from ingestd.pipeline.bundle import SMALL_BYTES, Like, Likes
from ingestd.pipeline.hands import MANY, Hands, read_alike
from ingestd.pipeline.plan import cast, file_rows, open_as_format, plan_rows
from ingestd.pipeline.reading import DropReader
from ingestd.pipeline.reorder import Closed, Reorder
from ingestd.pipeline.settle import GRACE_SECONDS, age_seconds, open_wait_seconds
from ingestd.pipeline.transform import Transform, transformed

SLAB_BYTES_MAX = 4 << 20

HOLD_BYTES_MAX = 32 << 20
"""Files with up to so many bytes of rows are said whole, larger ones as they are read."""

FAILURES_MAX = 8
"""After so many files of a task that only seemed alike (other people's, say) no more are tried."""

_OUT_OF_REACH_SECONDS = 5.0

_FORGET_BYTES_MIN = 1 << 20
_ON_DISK_SECONDS = 60.0
"""By then the kernel has written to the disk what somebody wrote to a file."""


class Decoder:
    """Decodes one task at a time and says all of it to the reorder buffer."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        reorder: Reorder,
        memory: int,
        likes: Likes,
        transforms: Mapping[str, Transform],
    ) -> None:
        self._sources = sources
        self._transforms = transforms
        self._reorder = reorder
        self._likes = likes
        self._hands = Hands()
        self._row_bytes_max = memory // 2
        self._slab_bytes = min(SLAB_BYTES_MAX, memory // 16)
        self._hold_bytes = min(HOLD_BYTES_MAX, memory // 8)
        self._unsaid: list[Message] = []
        self._more = False  # files follow in the same task

    def decode(self, ticket: int, task: Task) -> None:
        """Say everything of the task's files, up to the last one's ending.

        :raises Closed: the flow is stopping.
        """
        source = self._sources[task.files[0].source]
        files, failures = deque(task.files), 0
        while files:
            like = self._likes.of(files[0]) if failures < FAILURES_MAX else None
            if like is not None:
                if self._bundle(ticket, source, files, like):
                    continue
                failures += 1
            file = files.popleft()
            self._more = bool(files)
            self._decode_one(ticket, source, file, task.again)

    def close(self) -> None:
        """No more tasks will come."""
        self._hands.close()

    def _bundle(self, ticket: int, source: Source, files: deque[DropFile], like: Like) -> bool:
        """Take files from the front of ``files`` that are as ``like``; whether there were any."""
        count = max(1, self._slab_bytes // like.data_bytes)
        alike = list(takewhile(lambda f: self._likes.of(f) is like, islice(files, count)))
        nbytes = len(alike) * like.data_bytes
        self._reorder.reserve(ticket, nbytes)
        rows = np.empty((len(alike) * like.rows, *like.type.row_shape), like.type.dtype)
        digests = (self._hands.read if len(alike) >= MANY else read_alike)(
            str(source.drop),
            [(file.name, *file.fingerprint) for file in alike],
            like.header,
            like.data_bytes,
            source.settle.kind == "closed",
            rows.reshape(-1).view(np.uint8).data,
        )
        self._reorder.release(ticket, nbytes - len(digests) * like.data_bytes)
        if not digests:
            return False
        for _ in digests:
            files.popleft()
        bundle = Bundle(like.dataset, like.type, rows[: len(digests) * like.rows], digests)
        self._reorder.put(ticket, bundle, more=bool(files))
        return True

    def _decode_one(self, ticket: int, source: Source, file: DropFile, again: bool) -> None:
        ending: Ending
        try:
            self._unsaid.clear()
            for message in self._messages(ticket, source, file, again):
                # Most files are held until all of it is right: then their digest is known before
                # the first of their rows is written.
                if isinstance(message, Block) and not self._holds(message.rows.nbytes):
                    self._say(ticket)
                self._unsaid.append(message)
            last = self._unsaid[-1]
            if not isinstance(last, NotYet):
                self._say(ticket)
                return
            # What was not said need not be written, to be cut again.
            ending = last
        except Closed:
            raise
        except BadFile as error:
            ending = _young(source, file, error)
        except OSError as error:
            ending = _world(source, file, error)
        except MemoryError:
            ending = NotYet(_OUT_OF_REACH_SECONDS, "no memory to read it")
        # A bug that one file trips over stops no other, nor does a plug-in that ends the process.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            log.exception("a format failed in a way it should not: %s", file)
            ending = Failed(
                BadFile(
                    "a file that its format can read or refuse",
                    f"{type(error).__name__}: {error}",
                    "Please report this with the file; it is unharmed",
                )
            )
        self._reorder.release(ticket, self._unsaid_bytes())
        self._unsaid.clear()
        self._reorder.put(ticket, ending, more=self._more)

    def _unsaid_bytes(self) -> int:
        return sum(m.rows.nbytes for m in self._unsaid if isinstance(m, Block))

    def _holds(self, nbytes: int) -> bool:
        """Whether ``nbytes`` more may stay unsaid; the first block of a file always may."""
        held = self._unsaid_bytes()
        return not held or held + nbytes <= self._hold_bytes

    def _say(self, ticket: int) -> None:
        if not self._unsaid:
            return
        first, last = self._unsaid[0], self._unsaid[-1]
        if isinstance(first, Opened) and isinstance(last, Decoded):
            self._unsaid[0] = replace(first, digest=last.digest)
        self._reorder.put(ticket, *self._unsaid, more=self._more)
        self._unsaid.clear()

    def _reserve(self, ticket: int, nbytes: int) -> None:
        # What is not said cannot be written: with it, too, the head of the line has to fit into
        # its half of the bytes, or it would wait for files that wait for it.
        if self._unsaid_bytes() + nbytes > self._row_bytes_max:
            self._say(ticket)
        self._reorder.reserve(ticket, nbytes)

    def _messages(
        self, ticket: int, source: Source, drop_file: DropFile, again: bool
    ) -> Iterator[Message]:
        with DropReader(source.drop / drop_file.name) as file:
            wait = open_wait_seconds(source.settle, file.fileno())
            if wait:
                yield NotYet(wait, "somebody is writing it")
                return
            if Fingerprint.of(file.stat()) != drop_file.fingerprint:
                yield NotYet(0.0, "it has changed", soon=True)
                return
            yield from self._content(ticket, source, drop_file, file, again)

    def _content(
        self, ticket: int, source: Source, drop_file: DropFile, file: DropReader, again: bool
    ) -> Iterator[Message]:
        digest = file.digest() if again else ""
        captures = source.captures(drop_file.name)
        datasets = source.target(captures).datasets
        opened = open_as_format(source, drop_file.name, typing.cast(BinaryIO, file))
        transform = self._transforms.get(source.name)
        if transform is not None:
            opened = self._transformed(ticket, transform, opened, captures)
        plan = plan_rows(datasets, opened.members, partial=transform is not None)
        for dataset, (member, row_type) in plan.items():
            read = opened.members[member].dtype
            self._refuse_row(member, row_type)
            if not datasets[dataset].stack:
                self._refuse_row(member, RowType(read, row_type.row_shape))
        yield Opened(
            digest,
            {dataset: row_type for dataset, (_, row_type) in plan.items()},
            {
                dataset: file_rows(datasets[dataset], opened.members[member])
                for dataset, (member, _) in plan.items()
            },
        )
        digests = {}
        forget = len(plan) == 1 and _read_once(source, file.stat())
        for dataset, (member, row_type) in plan.items():
            hasher = xxhash.xxh3_128()
            stack = datasets[dataset].stack
            for rows in self._rows(ticket, opened, member, row_type, stack):
                hasher.update(rows.reshape(-1).view(np.uint8).data)
                if forget:
                    file.forget()
                yield Block(dataset, rows)
            digests[dataset] = hasher.hexdigest()
        digest = file.digest()
        if Fingerprint.of(file.stat()) != drop_file.fingerprint:
            yield NotYet(0.0, "it changed while it was read", soon=True)
            return
        self._learn(source, drop_file, file, opened, plan)
        yield Decoded(digests, digest)

    def _transformed(
        self, ticket: int, transform: Transform, opened: OpenFile, captures: Captures
    ) -> OpenFile:
        """The file as the transform makes it; what it reads for that counts as memory."""
        taken = 0

        def take(nbytes: int) -> None:
            nonlocal taken
            if taken + nbytes > self._row_bytes_max:
                raise BadFile(
                    f"arrays of {self._row_bytes_max:,} bytes or less (half of 'memory') for a "
                    "transform that takes a whole file",
                    f"{taken + nbytes:,} bytes, or more",
                    "Raise 'memory', or let the function take slabs (ingestd.transforms.slabwise)",
                )
            self._reorder.reserve(ticket, nbytes)
            taken += nbytes

        try:
            return transformed(transform, opened, captures, take)
        finally:
            self._reorder.release(ticket, taken)

    def _learn(
        self,
        source: Source,
        drop_file: DropFile,
        file: DropReader,
        opened: OpenFile,
        plan: Mapping[str, tuple[str, RowType]],
    ) -> None:
        """Take others like this one together, if they are small and need no decoding."""
        if opened.plain is None or len(plan) != 1 or drop_file.fingerprint.size > SMALL_BYTES:
            return
        if not source.fixed:
            return
        ((dataset, (member, row_type)),) = plan.items()
        info = opened.members[member]
        rows = 1 if source.datasets[dataset].stack else info.shape[0]
        if rows and info.dtype == row_type.dtype:
            header = os.pread(file.fileno(), opened.plain, 0)
            self._likes.learn(drop_file, Like(header, dataset, row_type, rows))

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
        read = opened.members[member].dtype
        slab_bytes = max(self._slab_bytes, row_type.row_bytes)
        if stack and opened.plain is not None and read == row_type.dtype:
            slabs = _stacked(opened.slabs(member, slab_bytes), row_type)
        else:
            # What is asked for fits the bound also once it is cast to a wider dtype.
            wider = -(-row_type.dtype.itemsize // read.itemsize)
            slabs = opened.slabs(member, self._slab_bytes // wider, row_type.dtype)
            slabs = _stacked(slabs, row_type) if stack else slabs
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


def _read_once(source: Source, status: os.stat_result) -> bool:
    """Whether a large file was written long ago, and is renamed once it was read.

    Of a backlog that memory could not hold, it would push out what readers read of the output.
    A new file stays: it may not be on the disk yet, and others may want it too.
    """
    done = source.after.directory
    old = time.time() - status.st_mtime > _ON_DISK_SECONDS
    if done is None or status.st_size < _FORGET_BYTES_MIN or not old:
        return False
    try:
        return device(done) == status.st_dev
    except OSError:
        return False  # whoever moves the file will say so


def _stacked(slabs: Iterator[np.ndarray], row_type: RowType) -> Iterator[np.ndarray]:
    """All of ``slabs`` as one row."""
    row, at = None, 0
    for slab in slabs:
        if slab.shape == row_type.row_shape:
            yield cast(slab, row_type.dtype)[None]
            return
        if row is None:
            row = np.empty((1, *row_type.row_shape), row_type.dtype)
        row[0, at : at + len(slab)] = cast(slab, row_type.dtype)
        at += len(slab)
    assert row is not None, "a row holds something"
    yield row


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
    # Not with its traceback, which would keep the open file, and its child, until it is written.
    return Failed(error.with_traceback(None))


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
