"""Files of nothing but values."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ingestd.errors import BadFile
from ingestd.formats.raw import Raw, RawOptions
from ingestd.formats.registry import choose
from tests.flows import make_config, rows_of, take_all


def opened(data: bytes, **options: Any) -> Any:
    return Raw().open(io.BytesIO(data), RawOptions(**options))


@pytest.mark.parametrize("size", [1, 7, 9, 12, 23])
def test_a_size_that_is_no_whole_number_of_rows_is_refused(size: int) -> None:
    with pytest.raises(BadFile, match="whole rows of 8 bytes"):
        opened(bytes(size), dtype="<u2", shape=(4,))


def test_a_file_shorter_than_its_header_is_refused() -> None:
    with pytest.raises(BadFile, match="16 bytes of header"):
        opened(bytes(8), dtype="<u2", header=16)


def test_a_file_cut_between_rows_is_refused_where_rows_are_declared() -> None:
    assert opened(bytes(16), dtype="<u2", shape=(4,)).members["data"].shape == (2, 4)
    with pytest.raises(BadFile, match="2 rows"):
        opened(bytes(16), dtype="<u2", shape=(4,), rows=3)


@pytest.mark.parametrize("dtype", ["nonsense", "O", "S0", "(2,"])
def test_a_dtype_without_a_width_is_a_mistake(dtype: str) -> None:
    with pytest.raises(ValidationError, match="write one"):
        RawOptions(dtype=dtype)


def test_small_ones_are_taken_together_and_large_ones_too(tmp_path) -> None:
    config = make_config(
        tmp_path,
        match="*.bin",
        order="name",
        format="raw",
        options={"dtype": ">i4", "shape": [5], "header": 3},
    )
    arrays = [(np.arange(10).reshape(2, 5) + 100 * n).astype(">i4") for n in range(40)]
    arrays.append(np.arange(500_000, dtype=">i4").reshape(-1, 5))
    for number, array in enumerate(arrays):
        (tmp_path / f"drop/{number:02}.bin").write_bytes(b"abc" + array.tobytes())

    done = take_all(config)

    assert done.files == 41
    assert np.array_equal(rows_of(tmp_path / "out.h5"), np.concatenate(arrays))


def test_somebody_with_an_unknown_file_is_told_of_raw() -> None:
    with pytest.raises(BadFile) as caught:
        choose("a.bin", b"\x00\x01\x02\x03")

    assert "'format: raw', and its 'options': dtype, shape, header" in caught.value.remedy
