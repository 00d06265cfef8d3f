"""Which codecs a zarr array may use, and what one of its stored chunks would unpack to.

A codec that runs code (pickle) or unpacks without a bound is never called.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from ingestd.formats import STILL_WRITTEN

COMPRESSORS = frozenset({"blosc", "zstd", "gzip", "zlib", "lz4"})
_OTHERS = frozenset(
    {
        *("bytes", "transpose", "sharding_indexed"),
        *("crc32c", "crc32", "adler32", "fletcher32"),
        *("shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "packbits", "astype"),
    }
)
REMEDY = f"Save it again with zarr.storage.ZipStore, then drop it again. {STILL_WRITTEN}"
_PIECE_BYTES = 256 * 1024


def check_codecs(metadata: Mapping[str, Any]) -> str | None:
    """The one compressor of an array's chunks; None if they are not compressed, or lie in shards.

    :raises ValueError: a codec is not one of those known to be safe, or two compress.
    """
    codecs = metadata.get("codecs")
    if codecs is None:
        stored = [*(metadata.get("filters") or ()), metadata.get("compressor") or {}]
        return _compressor([codec["id"] for codec in stored if codec])
    for inner in _inner(codecs):
        _compressor(_names(inner))
    return _compressor(_names(codecs))


def _inner(codecs: Any) -> Iterator[Any]:
    """The codecs in shards, and in shards of those."""
    for codec in codecs:
        configuration = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            if configuration.get(key):
                yield configuration[key]
                yield from _inner(configuration[key])


def _names(codecs: Any) -> list[str]:
    return [codec["name"].removeprefix("numcodecs.") for codec in codecs]


def _compressor(names: list[str]) -> str | None:
    found = None
    for name in names:
        if name in COMPRESSORS:
            if found is not None:
                raise ValueError(f"it is compressed twice, by {found} and {name}")
            found = name
        elif name not in _OTHERS:
            raise ValueError(f"its codec {name!r} is not one that ingestd takes")
    return found


def unpacked_bytes(codec: str | None, data: bytes, limit: int) -> int:
    """What ``data`` unpacks to, in bytes, or any number over ``limit`` if it is more.

    Blosc, zstd and lz4 say so at their start; a zstd frame may leave it out, then this is 0.
    gzip and zlib are unpacked once for it, and nothing of that is kept.
    """
    if codec == "blosc":
        return int.from_bytes(data[4:8], "little")
    if codec == "lz4":
        return int.from_bytes(data[:4], "little")
    if codec == "zstd":
        return _zstd_bytes(data)
    if codec in ("gzip", "zlib"):
        return _deflated_bytes(data, limit)
    return 0  # stored as it is, in shards (whose chunks zarr unpacks), or nothing is known


def _zstd_bytes(data: bytes) -> int:
    """Content size of the frame (RFC 8878, section 3.1.1.1)."""
    if len(data) < 6:
        return 0
    flag, single, dictionary = data[4] >> 6, data[4] >> 5 & 1, (0, 1, 2, 4)[data[4] & 3]
    size_bytes = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + dictionary
    return int.from_bytes(data[start : start + size_bytes], "little") + (256 if flag == 1 else 0)


def _deflated_bytes(data: bytes, limit: int) -> int:
    total = 0
    while data and total <= limit:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        pending = data
        while not unpacker.eof and total <= limit:
            piece = unpacker.decompress(pending, _PIECE_BYTES)
            pending = unpacker.unconsumed_tail
            total += len(piece)
            if not piece and not pending:
                break
        if unpacker.unused_data == data:
            break
        data = unpacker.unused_data  # gzip may have more members
    return total
