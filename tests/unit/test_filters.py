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
from ingestd.sinks.filters import FAST_LEVELS, Stored, compressor
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
    name, _, level = compression.partition(":")
    spec = DatasetSpec(
        RowType(rows.dtype, rows.shape[1:]),
        chunk_rows=len(rows),
        compression=name,
        level=int(level) if level else None,
    )
    with h5py.File(path, "w", libver=LIBVER) as file:
        create(file, {"/data": spec}, {})
        file["data"].resize(len(rows), axis=0)


def outside(dataset: h5py.Dataset, rows: np.ndarray) -> Stored:
    compress = compressor(dataset.id.get_create_plist())
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
            "checksum": {"compression": "gzip", "fletcher32": True},
            "offset": {"scaleoffset": 2},
            "zfp": dict(hdf5plugin.Zfp()),
        }.items():
            dataset = file.create_dataset(name, (64, 64), "i4", chunks=(8, 64), **how)

            assert compressor(dataset.id.get_create_plist()) is None, name


@pytest.mark.parametrize("compression", [*SAME, *OTHER])
def test_many_threads_make_the_same_chunks_as_one(tmp_path, compression: str) -> None:
    chunks = [rng.poisson(k % 5 + 1, 30_000).astype("u2").view("u1") for k in range(12)]
    made(tmp_path / "a.h5", compression, np.zeros((8, 3750), "u2"))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        compress = compressor(file["data"].id.get_create_plist())
    assert compress is not None
    alone = [compress(chunk) for chunk in chunks]
    start = threading.Barrier(4)

    def work() -> list[Stored]:
        start.wait()
        return [compress(chunk) for chunk in chunks]

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
