"""``.npy``: one array, called ``data``.

The bytes in the file are exactly those its header promises, or it is refused at ``open``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from ingestd.errors import BadFile
from ingestd.formats import STILL_WRITTEN, ArrayInfo, FormatOptions, npylayout

_MEMBER = "data"


class NpyOptions(FormatOptions):
    """``.npy`` has none."""


class Npy:
    """The format ``npy``. A run of ``slabs`` takes one slab of memory, in Fortran order three."""

    name: str = "npy"
    suffixes: tuple[str, ...] = (".npy",)
    extra: str | None = None
    requires: tuple[str, ...] = ()
    Options: type[FormatOptions] = NpyOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith(npylayout.MAGIC)

    def open(self, file: BinaryIO, options: FormatOptions) -> NpyFile:
        """Read the header of ``file`` and hold it against the file's size."""
        size_bytes = file.seek(0, 2)
        if not size_bytes:
            raise BadFile(
                "a numpy array file",
                "the file is empty",
                "Write the array again; if it was still being written, let it settle longer.",
            )
        source = _FileSource(file)
        header = npylayout.read_header(source)
        _check_size(header, size_bytes - header.data_start)
        return NpyFile(source, header)


class NpyFile:
    """An open ``.npy``."""

    def __init__(self, source: npylayout.Source, header: npylayout.NpyHeader) -> None:
        self._source = source
        self._header = header

    @property
    def members(self) -> Mapping[str, ArrayInfo]:
        return {_MEMBER: ArrayInfo(self._header.dtype, self._header.shape)}

    @property
    def plain(self) -> int | None:
        return None if self._header.scattered else self._header.data_start

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        assert member == _MEMBER, member
        return npylayout.slabs(self._source, self._header, slab_bytes)


class _FileSource:
    """The bytes of a file, wherever they stand."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read_into(self, offset: int, target: memoryview) -> None:
        self._file.seek(offset)
        filled = 0
        while filled < len(target):
            count = self._file.readinto(target[filled:])  # type: ignore[attr-defined]
            if not count:
                raise _cut_short(offset + len(target), offset + filled)
            filled += count


def _check_size(header: npylayout.NpyHeader, found_bytes: int) -> None:
    promised_bytes = header.data_bytes
    if found_bytes < promised_bytes:
        raise _cut_short(header.data_start + promised_bytes, header.data_start + found_bytes)
    if found_bytes > promised_bytes:
        raise BadFile(
            f"{promised_bytes:,} bytes of {header.dtype} {header.shape}, and no more",
            f"{found_bytes - promised_bytes:,} more bytes follow the array",
            "Save one array to each file (several go into one .npz), then drop it again.",
        )


def _cut_short(expected_bytes: int, found_bytes: int) -> BadFile:
    return BadFile(
        f"{expected_bytes:,} bytes or more",
        f"the file is cut short, at {found_bytes:,} bytes",
        f"Copy or save it again. {STILL_WRITTEN}",
    )
