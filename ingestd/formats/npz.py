"""``.npz``: a zip of ``.npy`` arrays, each called by its file's name without ``.npy``.

Nothing is extracted: members are unpacked slab by slab, and only if the sizes in the zip's
directory, in the ``.npy`` headers and in the file agree with each other.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, FormatOptions, npylayout
from ingestd.formats.library import RATIO_MAX, check_ratio
from ingestd.formats.ziplimits import (
    SAVE_AGAIN,
    BoundedReads,
    check_entries,
    not_npz,
    zip_errors,
)

UNPACKINGS_MAX = 256
PIECE_BYTES = 256 * 1024
_END_BYTES = 22


class NpzOptions(FormatOptions):
    """``ratio_max``: how many bytes may be unpacked for each byte of a compressed file.

    The zip's own compression (deflate) reaches 1,030 at most, on an array of one value. The
    default lets all measured data through, and any file that unpacks to 64 MiB or less; larger
    files of nothing but zeros are taken for zip bombs. Set 1100 to take those too: memory is
    bounded by the slab whatever the ratio, what it guards is the output's disk.
    """

    ratio_max: int = Field(default=RATIO_MAX, ge=1)


class Npz:
    """The format ``npz``.

    A run of ``slabs`` takes one slab of memory and 2 MiB; in Fortran order three, and it unpacks
    the member once for each slab.
    """

    name: str = "npz"
    suffixes: tuple[str, ...] = (".npz",)
    extra: str | None = None
    requires: tuple[str, ...] = ()
    Options: type[FormatOptions] = NpzOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))

    def open(self, file: BinaryIO, options: FormatOptions) -> NpzFile:
        """Read the directory and each array's header, and hold all sizes against each other."""
        assert isinstance(options, NpzOptions), options
        size_bytes = file.seek(0, 2)
        if size_bytes < _END_BYTES:
            raise not_npz(f"the file has {size_bytes} bytes" if size_bytes else "it is empty")
        bounded = BoundedReads(file)
        with zip_errors(bounded):
            archive = zipfile.ZipFile(bounded)
        entries = archive.infolist()
        check_entries(entries, archive.start_dir)
        unpacked_bytes = sum(entry.file_size for entry in entries)
        packed_bytes = sum(entry.compress_size for entry in entries)
        check_ratio(unpacked_bytes, packed_bytes, options.ratio_max, "npz")
        return NpzFile({e.filename[:-4]: _Member(archive, e, bounded) for e in entries})


class NpzFile:
    """An open ``.npz``."""

    plain: int | None = None

    def __init__(self, entries: dict[str, _Member]) -> None:
        self._entries = entries
        self.members: Mapping[str, ArrayInfo] = {
            name: ArrayInfo(entry.header.dtype, entry.header.shape)
            for name, entry in entries.items()
        }

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        return self._entries[member].slabs(slab_bytes)


class _Member:
    """One array of the zip, its header read."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: BoundedReads) -> None:
        self._archive, self._info, self._file = archive, info, file
        source = self._source()
        self.header = npylayout.read_header(source)
        source.close()
        promised_bytes = self.header.data_start + self.header.data_bytes
        if promised_bytes != info.file_size:
            raise BadFile(
                f"{promised_bytes:,} bytes of array '{info.filename}', as its header promises",
                f"the zip holds {info.file_size:,}",
                SAVE_AGAIN,
            )

    def slabs(self, slab_bytes: int) -> Iterator[np.ndarray]:
        header = self.header
        if header.scattered and header.shape[0] > UNPACKINGS_MAX * header.rows_in(slab_bytes):
            raise BadFile(
                f"C order, or {UNPACKINGS_MAX} times {slab_bytes:,} bytes or less",
                f"array '{self._info.filename}' holds {header.data_bytes:,} bytes in Fortran order",
                "Save numpy.ascontiguousarray(array), or to a .npy, then drop it again.",
            )
        source = self._source()
        yield from npylayout.slabs(source, header, slab_bytes)
        source.close()

    def _source(self) -> _MemberSource:
        return _MemberSource(self._archive, self._info, self._file)


class _MemberSource:
    """The unpacked bytes of a member, which go forward only: a step back starts again."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: BoundedReads) -> None:
        self._archive, self._info, self._file = archive, info, file
        self._stream: Any = None
        self._position = 0

    def read_into(self, offset: int, target: memoryview) -> None:
        with zip_errors(self._file, self._info.filename):
            if self._stream is None or offset < self._position:
                self.close()
                self._stream, self._position = self._archive.open(self._info), 0
            while self._position < offset:
                self._next(offset - self._position)
            filled = 0
            while filled < len(target):
                piece = self._next(len(target) - filled)
                target[filled : filled + len(piece)] = piece
                filled += len(piece)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _next(self, count: int) -> bytes:
        piece: bytes = self._stream.read(min(count, PIECE_BYTES))
        if not piece:
            raise EOFError(f"it ends after {self._position:,} bytes")
        self._position += len(piece)
        return piece
