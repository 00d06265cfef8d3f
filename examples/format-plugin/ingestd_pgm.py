"""Portable graymaps, as many cameras write them: one picture, one row.

Format: https://netpbm.sourceforge.net/doc/pgm.html (binary, ``P5``, one image in a file).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, FormatOptions

_HEAD_BYTES = 512
_HEADER = re.compile(rb"P5(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s")


class PgmOptions(FormatOptions):
    """``pixels_max``: larger pictures are refused."""

    pixels_max: int = Field(default=100_000_000, ge=1)


class Pgm:
    """The format ``pgm``: the member ``data``, uint8 or big-endian uint16 of (1, height, width)."""

    name: str = "pgm"
    suffixes: tuple[str, ...] = (".pgm",)
    extra: str | None = None
    requires: tuple[str, ...] = ()
    Options: type[FormatOptions] = PgmOptions

    def sniff(self, head: bytes) -> bool:
        return _HEADER.match(head) is not None

    def open(self, file: BinaryIO, options: FormatOptions) -> PgmFile:
        assert isinstance(options, PgmOptions)
        size_bytes = file.seek(0, 2)
        file.seek(0)
        found = _HEADER.match(file.read(_HEAD_BYTES))
        if found is None:
            raise _bad("a file that starts with P5, width, height and maximum", "another start")
        width, height, largest = map(int, found.groups())
        if not 0 < largest < 65536 or not 0 < width * height <= options.pixels_max:
            raise _bad(f"1 to {options.pixels_max} pixels of 1 to 65535", f"{width} x {height}")
        info = ArrayInfo(np.dtype("u1" if largest < 256 else ">u2"), (1, height, width))
        promised_bytes = found.end() + width * height * info.dtype.itemsize
        if size_bytes != promised_bytes:
            raise _bad(f"{promised_bytes} bytes, as its header promises", f"{size_bytes} bytes")
        return PgmFile(file, found.end(), info)


class PgmFile:
    """An open graymap. Files of one size and header can be taken together (``plain``)."""

    def __init__(self, file: BinaryIO, start: int, info: ArrayInfo) -> None:
        self._file = file
        self.plain: int | None = start
        self.members: Mapping[str, ArrayInfo] = {"data": info}

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        info = self.members[member]
        assert self.plain is not None
        self._file.seek(self.plain)
        pixels = bytearray()
        while piece := self._file.read(1 << 20):  # an unbuffered file may give less than asked
            pixels += piece
        try:
            yield np.frombuffer(pixels, info.dtype).reshape(info.shape)
        except ValueError:
            raise _bad("the bytes that were there a moment ago", "other ones") from None


def _bad(expected: str, found: str) -> BadFile:
    return BadFile(expected, found, "Write it again as binary PGM, one picture to a file.")
