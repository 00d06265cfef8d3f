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
from ingestd.formats import STILL_WRITTEN
from ingestd.formats.library import LibraryFile

MEMBERS_MAX = 10_000
DIRECTORY_BYTES_MAX = 1024 * 1024
"""The zip's directory is held in memory: about 100 bytes for each array."""

_LOCAL_HEADER_BYTES = 30
ENCRYPTED = 0x1 | 0x40
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    struct.error,
)
SAVE_AGAIN = (
    f"Save it again with numpy.savez or numpy.savez_compressed, then drop it again. {STILL_WRITTEN}"
)


class BoundedReads(LibraryFile):
    """A file for ``zipfile``, which reads a directory of any length that a zip claims."""

    def __init__(self, file: BinaryIO, read_bytes_max: int = DIRECTORY_BYTES_MAX) -> None:
        super().__init__(file)
        self._read_bytes_max = read_bytes_max

    def read(self, count: int | None = -1) -> bytes:
        if count is None or count < 0:
            count = self._read_bytes_max
        if count > self._read_bytes_max:
            raise BadFile(
                f"a zip directory of {self._read_bytes_max:,} bytes or less",
                f"it claims {count:,} bytes",
                "Save fewer arrays, or fewer chunks, to each file, then drop them again.",
            )
        return super().read(count)


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
    if entry.flag_bits & ENCRYPTED:
        raise not_npz(f"'{entry.filename}' is encrypted")
    if entry.compress_type not in METHODS:
        raise not_npz(f"'{entry.filename}' is compressed by method {entry.compress_type}")


def not_npz(found: str) -> BadFile:
    return BadFile("a zip of numpy arrays (.npz), whole and not encrypted", found, SAVE_AGAIN)
