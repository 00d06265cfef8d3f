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
from numpy.lib.recfunctions import repack_fields

from ingestd.config import Dataset, Source, refuse_dtype
from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, OpenFile
from ingestd.formats.registry import choose
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
        for member, row_type in plan.values():
            self._refuse_row(member, row_type)
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


def open_as_format(source: Source, name: str, file: BinaryIO) -> OpenFile:
    """Open ``file`` with the format that the source names, or that its name and content tell.

    :raises BadFile: no format takes it.
    """
    head = file.read(512)
    file.seek(0)
    form = choose(name, head, source.format)
    return form.open(file, form.Options(**source.options))


def plan_rows(source: Source, members: Mapping[str, ArrayInfo]) -> dict[str, tuple[str, RowType]]:
    """For each dataset of the source: the member that feeds it, and the rows it will give.

    :raises BadFile: a member is missing, or not what the config declares.
    """
    plan = {}
    for path, dataset in source.datasets.items():
        member = _member(path, dataset, members)
        plan[path] = (member, _row_type(dataset, member, members[member]))
    return plan


def _member(path: str, dataset: Dataset, members: Mapping[str, ArrayInfo]) -> str:
    leaf = path.rsplit("/", 1)[-1]
    wanted = [dataset.member] if dataset.member else [leaf, "data"]
    for name in wanted:
        if name in members:
            return name
    if not dataset.member and len(members) == 1:
        return next(iter(members))
    raise BadFile(
        f"a member '{wanted[0]}' for {path}",
        f"members {', '.join(repr(m) for m in list(members)[:20]) or '(none)'}",
        f"Set 'member' of {path} to one of them",
    )


def _row_type(dataset: Dataset, member: str, info: ArrayInfo) -> RowType:
    try:
        refuse_dtype(info.dtype)
    except ValueError as error:
        raise BadFile(
            "values that a growing HDF5 dataset can hold", f"'{member}': {error}", "Save it so"
        ) from None
    # Packed: the bytes between padded fields are nobody's, and would spoil the digest.
    dtype = repack_fields(dataset.numpy_dtype or info.dtype, recurse=True)
    if not np.can_cast(info.dtype, dtype, "same_kind") and info.shape[0:1] != (None,):
        raise BadFile(
            f"{dtype} (the config's dtype)",
            f"'{member}' is {info.dtype}, which does not convert to it",
            f"Set 'dtype: {info.dtype}', or leave 'dtype' out",
        )
    if dataset.stack:
        shape = info.shape
    elif info.shape:
        shape = info.shape[1:]
    else:
        raise BadFile(
            "an array with rows along axis 0",
            f"'{member}' is a single value",
            "Set 'stack: true' to make each file one row",
        )
    if None in shape:
        raise BadFile(
            "an array whose size is known beforehand ('stack: true')",
            f"'{member}' is text, its rows are not known before it is read",
            "Leave 'stack' out",
        )
    row_shape = tuple(int(n) for n in shape if n is not None)
    if 0 in row_shape:
        raise BadFile(
            "rows that hold something",
            f"'{member}' has rows of shape {row_shape}",
            "Leave such files out",
        )
    if dataset.row_shape is not None and row_shape != dataset.row_shape:
        raise BadFile(
            f"rows of shape {dataset.row_shape} (the config's row_shape)",
            f"'{member}' has rows of shape {row_shape}",
            f"Set 'row_shape: {list(row_shape)}', or correct the file",
        )
    return RowType(dtype, row_shape)


def cast(slab: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``slab`` as ``dtype``; integers that do not fit are refused, floats are rounded.

    :raises BadFile: a value does not fit.
    """
    if slab.dtype == dtype:
        return slab
    with np.errstate(all="ignore"):
        rows = slab.astype(dtype)
    if slab.dtype.kind in "iu" and dtype.kind in "iu" and not np.array_equal(rows, slab):
        raise BadFile(
            f"integers that fit {dtype}",
            f"values from {slab.min()} to {slab.max()}",
            f"Set 'dtype: {slab.dtype}'",
        )
    if dtype.kind == "S" and not np.array_equal(rows, slab.astype("S")):
        raise BadFile(
            f"text of {dtype.itemsize} bytes or less (the config's dtype)",
            f"longer text, of dtype {slab.astype('S').dtype.str[1:]}",
            "Set a wider 'dtype'",
        )
    return rows


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
