"""Rows that are not compressed: whole chunks go to the file as they are, the rest by HDF5."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ingestd.model import RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5 import Hdf5Sink


@pytest.mark.parametrize("dtype", ["<f4", ">u2", "?", "c16"])
@pytest.mark.parametrize(
    ("row_shape", "asked", "made"),
    [
        ((1024, 1024), {}, None),
        ((3, 700, 900), {}, None),
        ((1447, 1447), {}, (1, 1447, 1447)),
        ((6, 5), {"chunk_rows": 4}, (4, 6, 5)),
        ((6, 5), {"chunks": (1, 2, 5)}, (1, 2, 5)),
        ((6, 5), {"chunks": (1, 1, 5)}, (1, 1, 5)),
        ((6, 5), {"chunks": (1, 4, 5)}, (1, 4, 5)),
        ((6, 5), {"chunks": (2, 3, 5)}, (2, 3, 5)),
        ((), {"chunk_rows": 4}, (4,)),
    ],
)
def test_rows_in_any_chunks_are_read_as_they_were_written(
    tmp_path: Path, dtype: str, row_shape: tuple[int, ...], asked: dict, made: tuple | None
) -> None:
    random = np.random.default_rng(1)
    rows = random.integers(0, 2**15, (9, *row_shape)).astype(dtype)
    path = tmp_path / "out.h5"
    sink = Hdf5Sink(path)
    sink.ensure({"/data": DatasetSpec(RowType(rows.dtype, row_shape), **asked)}, {})

    start = 0
    for stop in (1, 4, 4, 8, 9):
        sink.append("/data", rows[start:stop])
        sink.flush()
        start = stop
    sink.close()

    with h5py.File(path) as file:
        assert file["/data"].dtype == rows.dtype
        assert np.array_equal(file["/data"][:], rows)
        chunk = file["/data"].chunks
    if made is not None:
        assert chunk == made
    elif rows[0].nbytes > 1 << 20:
        assert np.prod(chunk) * rows.dtype.itemsize <= 1 << 20
