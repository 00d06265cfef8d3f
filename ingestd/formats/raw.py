"""``raw``: the bytes of one array, called ``data``, as they stand in memory (C order), after a
header of a known length.

Nothing in such a file says what it is: the options do, and a size that does not fit is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, BinaryIO

import numpy as np
from pydantic import AfterValidator, Field

from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, FormatOptions

_MEMBER = "data"


def _fixed_width(text: str) -> str:
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"{text!r} is no NumPy dtype ({error}); write one like '<u2'") from None
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"{text!r} has no fixed width; write one that has, like '<u2' or S16")
    return text


class RawOptions(FormatOptions):
    """``dtype``: of the values, as NumPy has it: '<u2' is little-endian, '>f4' big-endian.

    ``shape``: of one row, without axis 0, such as [512, 512]; [] for rows of one value.

    ``header``: bytes to leave out at the start.

    ``rows``: how many a file has. Without it a file that was cut between two rows passes for whole.
    """

    dtype: Annotated[str, AfterValidator(_fixed_width)]
    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    header: int = Field(default=0, ge=0)
    rows: int | None = Field(default=None, ge=0)


class Raw:
    """The format ``raw``. A run of ``slabs`` takes one slab of memory."""

    name: str = "raw"
    suffixes: tuple[str, ...] = ()
    extra: str | None = None
    requires: tuple[str, ...] = ()
    Options: type[FormatOptions] = RawOptions

    def sniff(self, head: bytes) -> bool:
        return False

    def open(self, file: BinaryIO, options: FormatOptions) -> RawFile:
        """Hold the size of ``file`` against the options."""
        assert isinstance(options, RawOptions), options
        dtype = np.dtype(options.dtype)
        row_bytes = dtype.itemsize * math.prod(options.shape)
        data_bytes = file.seek(0, 2) - options.header
        rows, rest = divmod(data_bytes, row_bytes)
        if data_bytes < 0 or rest:
            raise BadFile(
                f"{options.header:,} bytes of header, then whole rows of {row_bytes:,} bytes "
                f"({dtype} {options.shape})",
                f"{data_bytes + options.header:,} bytes, which is {max(0, rest):,} too many or "
                f"{row_bytes - max(0, rest):,} too few",
                "Copy the file again, or correct the source's options.",
            )
        if options.rows is not None and rows != options.rows:
            raise BadFile(
                f"{options.rows:,} rows (the option 'rows')",
                f"{rows:,} rows",
                "Copy the file again, or correct the source's options.",
            )
        return RawFile(file, options.header, ArrayInfo(dtype, (rows, *options.shape)))


class RawFile:
    """An open file of bytes."""

    def __init__(self, file: BinaryIO, start: int, info: ArrayInfo) -> None:
        self._file = file
        self._start = start
        self._info = info
        self.plain: int | None = start
        self.members: Mapping[str, ArrayInfo] = {_MEMBER: info}

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        assert member == _MEMBER, member
        rows, *shape = (size or 0 for size in self._info.shape)
        row_bytes = self._info.dtype.itemsize * math.prod(shape)
        step = self._info.slab_rows(slab_bytes)
        for first in range(0, rows, step):
            slab = np.empty((min(step, rows - first), *shape), self._info.dtype)
            self._read(self._start + first * row_bytes, slab)
            yield slab

    def _read(self, offset: int, slab: np.ndarray) -> None:
        target = slab.reshape(-1).view(np.uint8).data
        self._file.seek(offset)
        filled = 0
        while filled < len(target):
            count = self._file.readinto(target[filled:])  # type: ignore[attr-defined]
            if not count:
                raise BadFile(
                    f"{len(target) - filled:,} more bytes",
                    "the file became shorter while it was read",
                    "Let its writer finish before it is dropped.",
                )
            filled += count
