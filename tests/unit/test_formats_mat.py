"""MATLAB drop files: the same array whatever the version, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="format 'mat' reads version 5 to 7 with SciPy")

import scipy.io
import scipy.sparse
from contract.extra_cases import mat, mat73

from ingestd.errors import BadFile
from ingestd.formats.inchild import ChildFile
from ingestd.formats.mat import Mat, MatOptions

ARRAYS = {
    "frames": np.arange(24.0).reshape(2, 3, 4),
    "counts": np.arange(12, dtype=np.uint16).reshape(4, 3),
    "line": np.arange(5.0)[None],
    "z": np.arange(6).reshape(3, 2) * (1 + 2j),
    "hit": np.array([[True, False], [False, True]]),
}


def opened(data: bytes) -> ChildFile:
    return Mat().open(io.BytesIO(data), MatOptions())


def read(data: bytes, slab_bytes: int = 100) -> dict[str, np.ndarray]:
    file = opened(data)
    return {name: np.concatenate(list(file.slabs(name, slab_bytes))) for name in file.members}


def written(variables: dict[str, Any]) -> ChildFile:
    out = io.BytesIO()
    scipy.io.savemat(out, variables)
    return opened(out.getvalue())


def test_all_versions_give_the_array_that_matlab_shows() -> None:
    versions = [mat()(ARRAYS), mat(do_compression=True)(ARRAYS), mat73(ARRAYS)]

    for data in versions:
        found = read(data)
        assert found.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert np.array_equal(found[name], array)


def test_whole_numbers_that_matlab_stored_narrow_are_of_its_own_type() -> None:
    # MATLAB writes a double array of small whole numbers as bytes.
    array = np.arange(8, dtype=np.uint8).reshape(2, 4)
    data = bytearray(mat()({"x": array}))
    data[128 + 16] = 6  # array flags: class double

    found = read(bytes(data))["x"]

    assert found.dtype == np.float64
    assert np.array_equal(found, array)


def test_what_is_no_array_of_numbers_is_refused_if_asked_for() -> None:
    file = written(
        {
            "x": np.ones((2, 2)),
            "text": "ab",
            "cell": np.array([[1, "x"]], object),
            "struct": {"a": 1},
            "sparse": scipy.sparse.eye(3, format="csc"),
            "none": np.zeros((0, 3)),
        }
    )

    assert np.array_equal(next(file.slabs("x", 100)), np.ones((2, 2)))
    words = {"text": "text", "cell": "a cell", "struct": "a struct", "sparse": "sparse"}
    for name, word in (words | {"none": "empty"}).items():
        with pytest.raises(BadFile, match=f"'{name}': it is .*{word}"):
            next(file.slabs(name, 100))


def test_a_variable_that_is_read_whole_is_bounded() -> None:
    # 8 GB of zeros in a header alone.
    data = bytearray(mat()({"x": np.zeros((2, 2))}))
    data[128 + 32 : 128 + 40] = np.array([1 << 15, 1 << 15], "<u4").tobytes()

    with pytest.raises(BadFile, match=r"8,589,934,592 bytes.*v7\.3"):
        next(opened(bytes(data)).slabs("x", 100))


def test_a_variable_that_promises_more_than_it_has_is_refused() -> None:
    data = bytearray(mat()({"x": np.zeros((2, 2))}))
    data[128 + 32 : 128 + 40] = np.array([300, 300], "<u4").tobytes()

    with pytest.raises(BadFile, match="whole"):
        next(opened(bytes(data)).slabs("x", 100))


def test_matlab_4_and_other_files_are_refused() -> None:
    for data in (bytes(200), b"\0" * 128, b""):
        with pytest.raises(BadFile, match="MATLAB file"):
            opened(data)
