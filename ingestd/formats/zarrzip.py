"""A zip as a store of zarr, read from an open file. Imports zarr: import this module late.

Each entry is read whole or in the range asked for, and only if what it unpacks to was foreseen.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from ingestd.errors import BadFile
from ingestd.formats.library import LibraryFile
from ingestd.formats.zarrcodecs import REMEDY, unpacked_bytes
from ingestd.formats.ziplimits import ENCRYPTED, METHODS, overlapping

ENTRIES_MAX = 100_000
METADATA_BYTES_MAX = 4 << 20
_PIECE_BYTES = 256 * 1024


class ZipStore(Store):
    """The entries of a zip by their names."""

    def __init__(self, source: LibraryFile) -> None:
        super().__init__(read_only=True)
        self._archive = zipfile.ZipFile(cast(Any, source))
        self._lock = threading.Lock()
        self._entries = _checked(self._archive)
        self._limits: dict[str, tuple[int, str | None]] = {}
        self._is_open = True

    @property
    def keys(self) -> Iterable[str]:
        """All keys, in the zip's order."""
        return self._entries.keys()

    def limit(self, path: str, chunk_bytes: int, compressor: str | None) -> None:
        """Chunks of the array at ``path`` may be stored in little more, and unpack to no more,
        than ``chunk_bytes``."""
        self._limits[f"{path}/" if path else ""] = (chunk_bytes, compressor)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        with self._lock:
            return prototype.buffer.from_bytes(self._read(entry, byte_range))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self._entries

    async def list(self) -> AsyncIterator[str]:
        for key in self._entries:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self._entries:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        found = {
            key[len(start) :].split("/", 1)[0]: None for key in self._entries if key[len(start) :]
            and key.startswith(start)
        }  # fmt: skip
        for name in found:
            yield name

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return True

    async def set(self, key: str, value: Buffer) -> None:
        raise AssertionError("drop files are never written to")

    async def delete(self, key: str) -> None:
        raise AssertionError("drop files are never written to")

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def _read(self, entry: zipfile.ZipInfo, byte_range: ByteRequest | None) -> bytes:
        limit, compressor = self._limit_of(entry.filename)
        # Compressed noise is a little longer than it was; a shard has an index of its chunks.
        if entry.file_size > limit + limit // 8 + (64 << 10):
            raise BadFile(
                f"an entry of {limit:,} bytes, or little more",
                f"'{entry.filename}' has {entry.file_size:,}",
                REMEDY,
            )
        start, stop = _range(byte_range, entry.file_size)
        with self._archive.open(entry) as stream:
            stream.seek(start)
            data = bytearray()
            while len(data) < stop - start:
                piece = stream.read(min(_PIECE_BYTES, stop - start - len(data)))
                if not piece:
                    raise EOFError(f"'{entry.filename}' ends early")
                data += piece
            if stop == entry.file_size:
                stream.read(1)  # this makes zipfile look at the checksum
        found = bytes(data)
        if byte_range is None and unpacked_bytes(compressor, found, limit) > limit:
            raise BadFile(
                f"chunks of {limit:,} bytes, as the array's metadata says",
                f"'{entry.filename}' unpacks to more",
                REMEDY,
            )
        return found

    def _limit_of(self, key: str) -> tuple[int, str | None]:
        if key.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")):
            return METADATA_BYTES_MAX, None
        return self._limits[max((p for p in self._limits if key.startswith(p)), key=len)]


def _range(byte_range: ByteRequest | None, size_bytes: int) -> tuple[int, int]:
    if byte_range is None:
        return 0, size_bytes
    if isinstance(byte_range, RangeByteRequest):
        start, stop = byte_range.start, byte_range.end
    elif isinstance(byte_range, OffsetByteRequest):
        start, stop = byte_range.offset, size_bytes
    elif isinstance(byte_range, SuffixByteRequest):
        start, stop = max(0, size_bytes - byte_range.suffix), size_bytes
    else:
        raise TypeError(f"a range {byte_range!r}")
    if not 0 <= start <= stop <= size_bytes:
        raise ValueError(f"bytes {start:,} to {stop:,} of {size_bytes:,} are asked for")
    return start, stop


def _checked(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if not 0 < len(entries) <= ENTRIES_MAX:
        raise ValueError(f"the zip has {len(entries):,} entries; 1 to {ENTRIES_MAX:,} are taken")
    if (name := overlapping(entries, archive.start_dir)) is not None:
        raise ValueError(f"'{name}' overlaps what follows it")
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if entry.filename.endswith("/"):
            continue
        if entry.flag_bits & ENCRYPTED or entry.compress_type not in METHODS:
            raise ValueError(f"'{entry.filename}' is encrypted, or compressed by another method")
        # zarr's own ZipStore adds metadata again when it changes: the last one holds.
        found[entry.filename] = entry
    return found
