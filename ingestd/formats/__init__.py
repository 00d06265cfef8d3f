"""File formats: how a drop file becomes arrays. Each is one module that knows no other format.

A format never loads more of a file than it was asked for, and never believes a file:
sizes are checked against the bytes that are there before memory is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel

from ingestd.errors import BadFile

__all__ = ["STILL_WRITTEN", "ArrayInfo", "Format", "FormatOptions", "OpenFile"]


STILL_WRITTEN = (
    "If its writer was still at work, let it write under a temporary name and rename when done."
)
"""What is said beside the remedy of files that may have been taken too early."""


class FormatOptions(BaseModel, extra="forbid", frozen=True):
    """Base of each format's own options; unknown keys are errors."""


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """What one member of a file holds, known before its data is read.

    ``shape[0]`` is None where the format only learns its rows by reading (csv). ``refused``: no
    rows can be made of it, which is said if a dataset asks for it. ``link_to``: the member that
    this is another name of.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...]
    refused: BadFile | None = None
    link_to: str = ""

    def slab_rows(self, slab_bytes: int) -> int:
        """Rows of a slab of ``slab_bytes`` or less, one at least; all, if they have no bytes."""
        row_bytes = self.dtype.itemsize * math.prod(size or 0 for size in self.shape[1:])
        return max(1, slab_bytes // row_bytes if row_bytes else self.shape[0] or 0)


class OpenFile(Protocol):
    """A drop file whose headers were read and believed."""

    @property
    def members(self) -> Mapping[str, ArrayInfo]:
        """Its arrays by name; the one array of a single-array format is called ``data``."""
        ...

    @property
    def plain(self) -> int | None:
        """Where the bytes of its one array begin, if they stand from there to the file's end as
        they do in memory (C order), and what stands before them says all about it; else None."""
        ...

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype | None = None
    ) -> Iterator[np.ndarray]:
        """The member in order along axis 0, each slab fresh, C-contiguous, ``slab_bytes`` or less.

        A slab holds one row at least. Nothing but the current slab is kept. ``dtype`` is a wish
        that only formats of text heed (they parse straight to it); others give what is stored.

        :raises BadFile: the data is not what the header promised.
        """
        ...


@runtime_checkable
class Format(Protocol):
    """One file format. Stateless; safe to use from several threads.

    ``suffixes``: in lower case, with the dot. ``requires``: modules to import beside NumPy and
    h5py, when a file is opened; ``pip install 'ingestd[extra]'`` brings them, of a plug-in the
    same of its own package.
    """

    name: str
    suffixes: tuple[str, ...]
    extra: str | None
    requires: tuple[str, ...]
    Options: type[FormatOptions]

    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts with ``head`` (up to 512 bytes) is of this format."""
        ...

    def open(self, file: BinaryIO, options: FormatOptions) -> OpenFile:
        """Read the headers of ``file``, a seekable unbuffered binary file, which the caller closes.

        :raises BadFile: it is not of this format, is cut short, or promises what it cannot hold.
        """
        ...
