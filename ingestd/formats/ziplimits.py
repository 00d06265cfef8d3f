"""What is checked of a zip before anything is unpacked: its directory, its entries, its sizes.

No length that a zip claims is read or unpacked unless the file can hold it.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ingestd.errors import BadFile

MEMBERS_MAX = 10_000
DIRECTORY_BYTES_MAX = 1024 * 1024
"""The zip's directory is held in memory: about 100 bytes for each array."""

UNPACKED_BYTES_FREE = 64 * 1024 * 1024
"""Up to this size any ratio is taken."""

_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1 | 0x40
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    struct.error,
)
SAVE_AGAIN = (
    "Save it again with numpy.savez or numpy.savez_compressed, then drop it again. "
    "If its writer was still at work, let it write under a temporary name and rename when done."
)


class BoundedReads:
    """A file for ``zipfile``, which reads any length a zip claims, and hides an ``OSError``."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def read(self, count: int = -1) -> bytes:
        if count > DIRECTORY_BYTES_MAX:
            raise BadFile(
                f"a zip directory of {DIRECTORY_BYTES_MAX:,} bytes or less",
                f"it claims {count:,} bytes",
                f"Save fewer arrays to each file ({MEMBERS_MAX:,} at most), then drop them again.",
            )
        data = bytearray()
        wanted = DIRECTORY_BYTES_MAX if count < 0 else count
        try:
            while len(data) < wanted and (piece := self._file.read(wanted - len(data))):
                data += piece
        except OSError as error:
            self.failure = error
            raise
        return bytes(data)


@contextmanager
def zip_errors(file: BoundedReads, member: str | None = None) -> Iterator[None]:
    """Turn what ``zipfile`` says of a bad zip into BadFile; a failure of the disk stays itself."""
    try:
        yield
    except _ZIP_ERRORS as error:
        if file.failure is not None:
            raise file.failure from error
        where = "its zip directory" if member is None else f"array '{member}'"
        reason = str(error) or type(error).__name__
        raise not_npz(f"{where} cannot be read ({reason}): cut short or damaged") from error


def check_entries(entries: list[zipfile.ZipInfo], directory_start: int) -> None:
    if not 0 < len(entries) <= MEMBERS_MAX:
        raise BadFile(
            f"1 to {MEMBERS_MAX:,} arrays",
            f"the zip holds {len(entries):,}",
            "Save the arrays to several files, then drop them again.",
        )
    names: set[str] = set()
    for entry in entries:
        _check_entry(entry)
        if entry.filename in names:
            raise not_npz(f"it holds two arrays named '{entry.filename}'")
        names.add(entry.filename)
    if (name := overlapping(entries, directory_start)) is not None:
        raise not_npz(f"'{name}' overlaps what follows it")


def overlapping(entries: list[zipfile.ZipInfo], directory_start: int) -> str | None:
    """The name of an entry that shares bytes with another, or with the directory."""
    # Overlapping entries would be unpacked several times over: the quickest zip bombs are so made.
    end = directory_start
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        start = entry.header_offset
        name_bytes = len(entry.orig_filename)
        if start < 0 or start + _LOCAL_HEADER_BYTES + name_bytes + entry.compress_size > end:
            return entry.filename
        end = start
    return None


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if not entry.filename.endswith(".npy"):
        raise not_npz(f"it holds '{entry.filename}', which is no .npy array")
    if entry.flag_bits & _ENCRYPTED:
        raise not_npz(f"'{entry.filename}' is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise not_npz(f"'{entry.filename}' is compressed by method {entry.compress_type}")


def check_ratio(entries: list[zipfile.ZipInfo], ratio_max: int) -> None:
    unpacked_bytes = sum(entry.file_size for entry in entries)
    packed_bytes = sum(entry.compress_size for entry in entries)
    if unpacked_bytes > max(UNPACKED_BYTES_FREE, packed_bytes * ratio_max):
        raise BadFile(
            f"{ratio_max:,} bytes or fewer for each compressed byte ('ratio_max')",
            f"{packed_bytes:,} bytes unpack to {unpacked_bytes:,}",
            "It may be a zip bomb. If the data is meant to be so, set "
            "'format: npz' and 'options: {ratio_max: 1100}', then drop it again.",
        )


def not_npz(found: str) -> BadFile:
    return BadFile("a zip of numpy arrays (.npz), whole and not encrypted", found, SAVE_AGAIN)
