"""A drop file that a child process reads for a format: the library may crash, the daemon does not.

The child reads by a descriptor of its own: the digest is that of the same open file.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo
from ingestd.formats.library import LibraryFile, check_ratio
from ingestd.isolated import parent
from ingestd.isolated.wire import Member

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """How a format has its files read: by which module, with what options; and what is said of a
    file that is none. More than ``ratio_max`` bytes for each byte of the file are refused."""

    format: str
    reader: str
    options: dict[str, Any]
    expected: str
    remedy: str
    ratio_max: int


def open_in_child(file: BinaryIO, reading: Reading) -> ChildFile:
    """Open ``file`` in a child.

    :raises BadFile: it is refused, or crashed the child. :raises OSError: the disk failed.
    """
    with _descriptor(file) as fd:
        size_bytes = os.fstat(fd).st_size
        child = parent.take()
        try:
            found = child.open(
                fd, reading.reader, reading.options, reading.expected, reading.remedy
            )
        except BaseException:
            parent.give_back(child)
            raise
    return ChildFile(child, found, size_bytes, reading)


class ChildFile:
    """An open file. Its child is free for another when this is not referred to any more."""

    plain: int | None = None

    def __init__(
        self, child: parent.Child, found: dict[str, Member], size_bytes: int, reading: Reading
    ) -> None:
        self.child = child
        weakref.finalize(self, parent.give_back, child).atexit = False
        self._found, self._size_bytes, self._reading = found, size_bytes, reading
        self.members: Mapping[str, ArrayInfo] = {
            name: ArrayInfo(m.dtype, m.shape, BadFile(*m.refused) if m.refused else None, m.link_to)
            for name, m in found.items()
        }

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        found = self._found[member]
        if found.refused is not None:
            expected, what, remedy = found.refused
            raise BadFile(expected, f"'{member}': {what}", remedy)
        promised_bytes = math.prod(found.shape) * found.dtype.itemsize
        check_ratio(promised_bytes, self._size_bytes, self._reading.ratio_max, self._reading.format)
        if not found.shape:
            yield self.child.rows(member, found, 0, 1)
            return
        count, step = found.shape[0], self.members[member].slab_rows(slab_bytes)
        if step > found.chunk_rows:
            step -= step % found.chunk_rows
        for start in range(0, count, step):
            yield self.child.rows(member, found, start, min(step, count - start))


@contextmanager
def _descriptor(file: BinaryIO) -> Iterator[int]:
    """The file's own descriptor; of what only looks like a file, that of a copy in memory."""
    try:
        yield file.fileno()
        return
    except (AttributeError, io.UnsupportedOperation):
        pass
    fd = os.memfd_create("ingestd")
    try:
        source = LibraryFile(file)
        source.seek(0)
        with open(fd, "wb", closefd=False) as copy:
            while piece := source.read(_PIECE_BYTES):
                copy.write(piece)
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
