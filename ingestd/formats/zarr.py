"""``.zarr.zip``: a zarr store (versions 2 and 3) in a zip; each array is a member, by its path.

Chunks are read a band of rows at a time. No codec that could run code is ever called, and no chunk
is unpacked that promises more than the array's metadata.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, FormatOptions
from ingestd.formats.library import RATIO_MAX, LibraryFile, check_ratio, library_errors
from ingestd.formats.zarrcodecs import REMEDY, check_codecs
from ingestd.formats.ziplimits import BoundedReads

CHUNK_BYTES_MAX = 256 << 20
"""A chunk (of a shard: one in it) is unpacked whole."""

BAND_BYTES_MAX = 32 << 20
"""Chunks of one band of rows are kept, up to this size; of a larger band they are read again for
each slab."""

CHUNKS_MAX = 1_000_000
NODES_MAX = 1_000
ZIP_DIRECTORY_BYTES_MAX = 16 << 20
"""Held in memory: about 100 bytes for each entry."""

_ROOT = "data"
_VERSIONS: dict[str, Literal[2, 3]] = {"zarr.json": 3, ".zarray": 2, ".zgroup": 2}
_SIGNS = (b"zarr.json", b".zarray", b".zgroup", b".zattrs", b".zmetadata")
_EXPECTED = "a zip of a zarr store (version 2 or 3), whole"


class ZarrOptions(FormatOptions):
    """``ratio_max``: how many bytes of values one byte of the file may promise, above 64 MiB.
    Chunks that were never written count too: they read as the fill value."""

    ratio_max: int = Field(default=RATIO_MAX, ge=1)


class Zarr:
    """The format ``zarr``. A run of ``slabs`` takes one slab and one band of chunks (32 MiB at
    most), and the chunks that zarr unpacks at a time."""

    name: str = "zarr"
    suffixes: tuple[str, ...] = (".zarr.zip", ".zarr")
    extra: str | None = "zarr"
    requires: tuple[str, ...] = ("zarr",)
    Options: type[FormatOptions] = ZarrOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith(b"PK\x03\x04") and any(sign in head for sign in _SIGNS)

    def open(self, file: BinaryIO, options: FormatOptions) -> ZarrFile:
        """Read the zip's directory and the arrays' metadata; no chunk is read yet."""
        assert isinstance(options, ZarrOptions), options
        head = file.read(4)
        if head not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise _bad(f"it starts with {head!r}" if head else "the file is empty")
        source = BoundedReads(file, ZIP_DIRECTORY_BYTES_MAX)
        with library_errors(source, _EXPECTED, REMEDY):
            from ingestd.formats.zarrzip import ZipStore

            store = ZipStore(source)
            arrays = _arrays(store)
            promised_bytes = sum(array.nbytes for array in arrays.values())
            check_ratio(promised_bytes, source.size_bytes, options.ratio_max, "zarr")
            for array in arrays.values():
                compressor = check_codecs(array.metadata.to_dict())
                outer = array.shards or array.chunks
                chunk_bytes = math.prod(outer) * array.dtype.itemsize
                store.limit(array.path, chunk_bytes, compressor)
        return ZarrFile(source, arrays)


def _arrays(store: Any) -> dict[str, Any]:
    """The arrays of a store, by their paths below its outermost node.

    Their metadata is read and checked. Text, and other arrays of no fixed width, are left out.

    :raises BadFile: there is none that can be taken, or one means no possible array.
    """
    import zarr

    versions: dict[str, Literal[2, 3]] = {}
    for key in store.keys:
        parent, _, leaf = key.rpartition("/")
        if leaf in _VERSIONS and versions.get(parent) != 3:
            versions[parent] = _VERSIONS[leaf]
    if len(versions) > NODES_MAX:
        raise _bad(f"it has {len(versions):,} arrays and groups, more than {NODES_MAX:,}")
    found, left_out = {}, []
    for path, version in sorted(versions.items()):
        node = zarr.open(store=store, path=path, mode="r", zarr_format=version)
        if not isinstance(node, zarr.Array):
            continue
        if node.dtype.kind in "OT" or not node.dtype.itemsize:
            left_out.append(f"'{path}' is of {node.dtype}")
            continue
        _check_array(path, node)
        found[path] = node
    if not found:
        raise BadFile(
            "an array of numbers, or of text of a fixed width",
            "; ".join(left_out) or "the store has no array",
            REMEDY,
        )
    return {_name(path, versions): node for path, node in found.items()}


class ZarrFile:
    """The arrays of an open store."""

    plain: int | None = None

    def __init__(self, source: LibraryFile, arrays: Mapping[str, Any]) -> None:
        self._source, self._arrays = source, arrays
        self.members: Mapping[str, ArrayInfo] = {
            name: ArrayInfo(array.dtype, array.shape) for name, array in arrays.items()
        }

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        array = self._arrays[member]
        if not array.shape:
            yield self._read(array, ())
            return
        count, chunk_rows = array.shape[0], array.chunks[0]
        step = band = self.members[member].slab_rows(slab_bytes)
        # Whole chunks at a time, as many as a slab takes, or one band for several slabs.
        if step >= chunk_rows:
            step = band = step // chunk_rows * chunk_rows
        elif chunk_rows * math.prod(array.shape[1:]) * array.dtype.itemsize <= BAND_BYTES_MAX:
            band = chunk_rows
        for start in range(0, count, band):
            rows = self._read(array, slice(start, min(start + band, count)))
            if len(rows) <= step:
                yield rows
                continue
            for first in range(0, len(rows), step):
                yield rows[first : first + step].copy()

    def _read(self, array: Any, place: Any) -> np.ndarray:
        with library_errors(self._source, _EXPECTED, REMEDY):
            # zarr's own array, unless that is a view or a single value.
            return np.require(array[place], array.dtype, ("C", "W", "O"))


def _name(path: str, nodes: Iterable[str]) -> str:
    # A directory that was zipped by its name has that name before all paths.
    tops = {other.split("/", 1)[0] for other in nodes}
    if "" not in nodes and len(tops) == 1:
        path = path.partition("/")[2]
    return path or _ROOT


def _check_array(path: str, array: Any) -> None:
    try:
        check_codecs(array.metadata.to_dict())
    except ValueError as error:
        raise BadFile(
            "codecs that run no code, and unpack a bounded size",
            f"array '{path}': {error}",
            "Save it with zstd, blosc or gzip, then drop it again.",
        ) from None
    chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
    if chunk_bytes > CHUNK_BYTES_MAX:
        raise BadFile(
            f"chunks of {CHUNK_BYTES_MAX:,} bytes or less",
            f"array '{path}' has chunks of {chunk_bytes:,} bytes",
            "Save it with smaller chunks, then drop it again.",
        )
    chunks = math.prod(
        -(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)
    )
    if chunks > CHUNKS_MAX:
        raise BadFile(
            f"{CHUNKS_MAX:,} chunks or fewer",
            f"array '{path}' has {chunks:,}",
            "Save it with larger chunks, then drop it again.",
        )


def _bad(found: str) -> BadFile:
    return BadFile(_EXPECTED, found, REMEDY)
