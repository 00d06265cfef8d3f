"""Chunks that are made outside HDF5 are, byte for byte, those that HDF5 makes; or gzip's own."""

from __future__ import annotations

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from ingestd.model import RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.filters import (
    FAST_LEVELS,
    Stored,
    _with_checksum,
    compressor,
    scratch_compressor,
)
from ingestd.sinks.hdf5_create import create
from ingestd.sinks.hdf5_edit import LIBVER

rng = np.random.default_rng(7)
ROWS = {
    "counts": rng.poisson(2.0, (8, 40, 50)).astype("u2"),
    "noise": rng.integers(0, 256, (8, 4000)).astype("u1"),
    "zeros": np.zeros((8, 999), "f8"),
    "odd shape": rng.normal(size=(8, 3, 7, 1, 11)).astype("f4"),
    "one value": np.arange(8, dtype="i8"),
    "big-endian": rng.poisson(50.0, (8, 100)).astype(">i4"),
    "bool": rng.random((8, 1000)) > 0.9,
    "complex": rng.normal(size=(8, 100)).astype("c8"),
    "text": np.array([b"a" * (i % 5) for i in range(800)], "S9").reshape(8, 100),
    "compound": np.array(
        [[(i, i / 3, b"xy")] * 30 for i in range(8)], [("a", "i4"), ("b", "f8"), ("c", "S3")]
    ),
    "large elements": rng.integers(0, 9, (8, 20, 300)).astype("u1").view("V300")[..., 0],
}
SAME = (
    *("lz4", "zstd", "zstd:1", "zstd:12", "bitshuffle", "blosc", "blosc:0", "blosc:1", "blosc:9"),
    *("blosc2", "blosc2:0", "blosc2:9", "gzip:0", "gzip:4", "gzip:6", "gzip:9"),
)
OTHER = ("gzip", *(f"gzip:{level}" for level in FAST_LEVELS))


def made(path: Path, compression: str, rows: np.ndarray) -> None:
    compression, *filters = compression.split("+")
    name, _, level = compression.partition(":")
    spec = DatasetSpec(
        RowType(rows.dtype, rows.shape[1:]),
        chunk_rows=len(rows),
        compression=name,
        level=int(level) if level else None,
        filters=tuple(filters) if filters else None,
    )
    with h5py.File(path, "w", libver=LIBVER) as file:
        create(file, {"/data": spec}, {})
        file["data"].resize(len(rows), axis=0)


def outside(dataset: h5py.Dataset, rows: np.ndarray) -> Stored:
    compress = compressor(dataset.id.get_create_plist()) or scratch_compressor(dataset.id)
    assert compress is not None
    return compress(rows.reshape(-1).view(np.uint8))


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("compression", SAME)
def test_a_chunk_is_the_same_as_from_hdf5(tmp_path, compression: str, kind: str) -> None:
    rows = ROWS[kind]
    made(tmp_path / "a.h5", compression, rows)

    with h5py.File(tmp_path / "a.h5", "r+") as file:
        stored = outside(file["data"], rows)
        file["data"][:] = rows
        mask, data = file["data"].id.read_direct_chunk((0,) * rows.ndim)

    if compression.startswith("gzip"):  # HDF5 may be linked with another zlib than Python
        assert zlib.decompress(stored.data) == zlib.decompress(data)
    else:
        assert stored.data == data
    assert stored.mask == mask


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(
    "compression", ["none+fletcher32", "zstd+fletcher32", "lz4+shuffle+fletcher32"]
)
def test_a_chunk_with_more_filters_is_the_same_as_from_hdf5(tmp_path, compression, kind) -> None:
    test_a_chunk_is_the_same_as_from_hdf5(tmp_path, compression, kind)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">u2", ">i4", "u4", "<i8", ">i8", "u8"])
@pytest.mark.parametrize("compression", ["none+scaleoffset", "gzip:4+scaleoffset"])
def test_integers_of_any_range_come_back_from_scaleoffset(tmp_path, compression, dtype) -> None:
    limits = np.iinfo(dtype)
    for low, high in [(limits.min, limits.max), (0, 1), (limits.max - 3, limits.max), (5, 5)]:
        rows = rng.integers(low, high, (8, 100), np.dtype(dtype).newbyteorder("="), endpoint=True)
        rows[0, :2] = low, high
        rows = rows.astype(dtype)
        made(tmp_path / "a.h5", compression, rows)

        with h5py.File(tmp_path / "a.h5", "r+") as file:
            stored = outside(file["data"], rows)
            file["data"].id.write_direct_chunk((0, 0), stored.data, stored.mask)
        with h5py.File(tmp_path / "a.h5", "r") as file:
            found = file["data"][:]

        assert np.array_equal(found, rows)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 719, 720, 721, 131071, 131072, 131074, 400001])
@pytest.mark.parametrize("byte", [0, 1, 255, None])
def test_the_checksum_is_hdf5s(tmp_path, size: int, byte: int | None) -> None:
    data = rng.integers(0, 256, size).astype("u1") if byte is None else np.full(size, byte, "u1")
    if not size:
        assert _with_checksum(b"") == bytes(4)
        return
    made(tmp_path / "a.h5", "none+fletcher32", data[None])

    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["data"][:] = data
        assert file["data"].id.read_direct_chunk((0, 0))[1] == _with_checksum(data)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("compression", OTHER)
def test_fast_gzip_unpacks_to_the_same(tmp_path, compression: str, kind: str) -> None:
    rows = ROWS[kind]
    made(tmp_path / "a.h5", compression, rows)

    with h5py.File(tmp_path / "a.h5", "r+") as file:
        stored = outside(file["data"], rows)
        file["data"].id.write_direct_chunk((0,) * rows.ndim, stored.data, stored.mask)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        found = file["data"][:]
        with h5py.File(tmp_path / "b.h5", "w") as other:
            other.create_dataset(
                "data", data=rows, chunks=rows.shape, compression="gzip", shuffle=True
            )
            _, expected = other["data"].id.read_direct_chunk((0,) * rows.ndim)

    assert found.tobytes() == rows.tobytes()
    assert zlib.decompress(stored.data) == zlib.decompress(expected)


def test_what_only_hdf5_can_do_is_left_to_it(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, how in {
            "lzf": {"compression": "lzf"},
            "offset": {"scaleoffset": 2},
            "zfp": dict(hdf5plugin.Zfp()),
        }.items():
            dataset = file.create_dataset(name, (64, 64), "i4", chunks=(8, 64), **how)

            assert compressor(dataset.id.get_create_plist()) is None, name
            assert (scratch_compressor(dataset.id) is None) == (name != "offset")


@pytest.mark.parametrize("compression", [*SAME, *OTHER])
def test_many_threads_make_the_same_chunks_as_one(tmp_path, compression: str) -> None:
    chunks = [rng.poisson(k % 5 + 1, 30_000).astype("u2").view("u1") for k in range(12)]
    made(tmp_path / "a.h5", compression, np.zeros((8, 3750), "u2"))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        compress = compressor(file["data"].id.get_create_plist())
    assert compress is not None
    # ISA-L finds a match more or less from one call to the next; what it means is the same.
    content = zlib.decompress if compression in OTHER else bytes
    alone = [(content(one.data), one.mask) for one in map(compress, chunks)]
    start = threading.Barrier(4)

    def work() -> list[tuple[bytes, int]]:
        start.wait()
        return [(content(one.data), one.mask) for one in map(compress, chunks)]

    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(work) for _ in range(4)]:
            assert found.result() == alone


@pytest.mark.parametrize("compression", ["gzip", "gzip:4", "lz4", "zstd"])
def test_a_chunk_as_large_as_its_rows_went_past_all_filters(tmp_path, compression: str) -> None:
    made(tmp_path / "a.h5", compression, np.zeros((1, 300), "u1"))
    noise, sizes = rng.integers(1, 256, 300).astype("u1"), set()

    with h5py.File(tmp_path / "a.h5", "r") as file:
        for zeros in range(60):
            noise[:zeros] = 0
            stored = outside(file["data"], noise)
            sizes.add(len(stored.data))
            assert (len(stored.data) == 300) == bool(stored.mask)

    assert 300 in sizes
