"""How a dataset stands in the file: its chunks, and that older HDF5 opens it."""

from __future__ import annotations

import re
import shutil
import subprocess

import h5py
import numpy as np
import pytest

from ingestd.layout import RECORD, records_path
from ingestd.model import RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5 import Hdf5Sink

ROW = RowType(np.dtype("u2"), (32,))


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        (DatasetSpec(ROW), 16384),
        (DatasetSpec(ROW, file_rows=1000), 16000),
        (DatasetSpec(ROW, 100, file_rows=1000), 100),
        (DatasetSpec(ROW, compression="gzip", file_rows=1000), 1000),
        (DatasetSpec(ROW, compression="gzip"), 1024),
    ],
)
def test_the_chunks_are_those_of_the_plan(tmp_path, spec, rows) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")

    sink.ensure({"/data": spec}, {})
    sink.close()

    with h5py.File(tmp_path / "out.h5") as file:
        assert file["/data"].chunks == (rows, 32)


def test_files_that_fill_their_compressed_chunks_waste_nothing(tmp_path) -> None:
    sizes = {}
    files = np.random.default_rng(1).integers(0, 2**16, (20, 1000, 32), "u2")
    for name, spec in {
        "fitted": DatasetSpec(ROW, compression="gzip", file_rows=1000),
        "torn": DatasetSpec(ROW, 16384, compression="gzip"),
    }.items():
        path = tmp_path / f"{name}.h5"
        sink = Hdf5Sink(path)
        sink.ensure({"/data": spec}, {})
        for rows in files:
            sink.append("/data", rows)
            sink.flush()
            sink.append(records_path("/data"), np.zeros(1, RECORD))
            sink.flush()
        sink.close()
        sizes[name] = path.stat().st_size

    assert sizes["fitted"] < 1.1 * files.nbytes
    assert sizes["torn"] > 5 * sizes["fitted"]


@pytest.mark.parametrize(
    "compression", ["none", "gzip", "lzf", "lz4", "zstd", "bitshuffle", "blosc", "blosc2"]
)
def test_an_older_h5dump_opens_what_was_written(tmp_path, compression) -> None:
    if shutil.which("h5dump") is None:
        pytest.skip("no h5dump")
    path = tmp_path / "out.h5"
    sink = Hdf5Sink(path)
    sink.ensure({"/data": DatasetSpec(ROW, 64, compression)}, {})
    sink.append("/data", np.ones((1000, 32), "u2"))
    sink.close()

    done = subprocess.run(["h5dump", "-H", "-p", path], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert re.search(r'DATASET "data" {\s+DATATYPE .*\s+DATASPACE +SIMPLE { \( 1000,', done.stdout)


STORAGE = [
    ("none", None, (4, 16, 32)),
    ("gzip", None, (4, 16, 32)),
    ("bitshuffle", None, (4, 50, 32)),
    ("lzf", (), (5, 50, 70)),
    ("none", ("fletcher32",), None),
    ("gzip", ("fletcher32",), (4, 16, 32)),
    ("gzip", ("shuffle", "fletcher32"), None),
    ("none", ("scaleoffset",), None),
    ("gzip", ("scaleoffset",), (4, 16, 32)),
]


@pytest.mark.parametrize(("compression", "filters", "chunks"), STORAGE)
def test_frames_are_read_back_however_they_are_stored(
    tmp_path, compression: str, filters, chunks
) -> None:
    frames = np.random.default_rng(3).integers(0, 4000, (33, 50, 70)).astype("<u2")
    spec = DatasetSpec(
        RowType(frames.dtype, (50, 70)),
        4,
        compression,
        chunks=chunks,
        filters=filters,
        fill=np.uint16(77),
    )
    path = tmp_path / "out.h5"
    sink = Hdf5Sink(path)
    sink.ensure({"/data": spec}, {})
    start = 0
    for count in (1, 2, 5, 3, 13, 1, 8):
        sink.append("/data", frames[start : start + count])
        sink.flush(whole=bool(count % 2))
        start += count
    sink.close()

    with h5py.File(path, "r+") as file:
        dataset = file["data"]
        assert dataset.chunks == (chunks or (4, 50, 70))
        assert bool(filters and "fletcher32" in filters) == dataset.fletcher32
        assert np.array_equal(dataset[:], frames)
        dataset.resize(36, axis=0)
        assert np.all(dataset[33:] == 77)
        dataset.resize(33, axis=0)
    if compression != "bitshuffle" and compression != "lzf" and shutil.which("h5dump"):
        command = ["h5dump", "-d", "/data", "-b", "LE", "-o", tmp_path / "raw", path]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.fromfile(tmp_path / "raw", "<u2").reshape(frames.shape), frames)


@pytest.mark.parametrize(
    ("compression", "filters", "shuffled"),
    [
        ("gzip", None, True),
        ("lzf", None, True),
        ("zstd", None, False),
        ("gzip", (), False),
        ("zstd", ("shuffle",), True),
    ],
)
def test_gzip_and_lzf_shuffle_unless_filters_are_named(
    tmp_path, compression, filters, shuffled
) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")
    sink.ensure({"/data": DatasetSpec(ROW, 64, compression, filters=filters)}, {})
    sink.close()

    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].shuffle == shuffled
