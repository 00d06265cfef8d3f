"""Filtered chunks of placed rows: written again, they leave what a reader may look at as it was."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ingestd.model import RowRange, RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5 import Hdf5Sink

ROWS, WIDTH = 16, 100


@pytest.mark.parametrize(
    ("compression", "filters", "parts"),
    [
        ("none", ("scaleoffset",), None),
        ("none", ("fletcher32",), None),
        ("gzip", None, None),
        ("lz4", None, (ROWS, 30)),
    ],
)
def test_a_chunk_that_is_written_again_is_not_written_over(
    tmp_path: Path, compression: str, filters: tuple[str, ...] | None, parts: tuple[int, ...] | None
) -> None:
    path = tmp_path / "out.h5"
    sink = Hdf5Sink(path)
    spec = DatasetSpec(
        *(RowType(np.dtype("i4"), (WIDTH,)), ROWS, compression),
        fill=np.int32(90),
        filters=filters,
        chunks=parts,
        placed=True,
    )
    sink.ensure({"/data": spec}, {})
    random = np.random.default_rng(1)
    expected = np.full((ROWS + 3, WIDTH), 90, "i4")
    for number in (3, 1, 17, *range(5, 14)):
        # As many bits as before, but what they count from moves.
        row = random.integers(-30 - number, 100, (1, WIDTH)).astype("i4")
        before = _stored(sink, path)

        sink.write("/data", number, row)
        sink.flush()

        expected[number] = row
        data = path.read_bytes()
        for offset, stored in before:
            unfiltered = len(stored) == ROWS * (parts or (0, WIDTH))[1] * 4
            assert unfiltered or data[offset : offset + len(stored)] == stored
        rows = sink._live["/data"].handle[:]
        assert np.array_equal(rows, expected[: len(rows)])
    assert sink.blank("/data", RowRange(5, 7))
    assert not sink.blank("/data", RowRange(5, 7))
    sink.close()
    expected[5:7] = 90
    with h5py.File(path) as file:
        assert np.array_equal(file["/data"][:], expected[: len(file["/data"])])


def _stored(sink: Hdf5Sink, path: Path) -> list[tuple[int, bytes]]:
    """Where each chunk stands in the file, and its bytes."""
    data, found = path.read_bytes(), []

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        offset = chunk.byte_offset
        found.append((offset, data[offset : offset + chunk.size]))

    sink._live["/data"].handle.id.chunk_iter(note)
    return found
