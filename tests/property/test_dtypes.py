"""What fixed-width dtypes a file holds stands in the dataset bit for bit; others are refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from flows import make_config, take_all
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ingestd.tail import verify

ENDIANNESS = st.sampled_from("<>")


def scalars() -> st.SearchStrategy[np.dtype]:
    return st.one_of(
        npst.boolean_dtypes(),
        ENDIANNESS.flatmap(lambda e: npst.integer_dtypes(endianness=e)),
        ENDIANNESS.flatmap(lambda e: npst.unsigned_integer_dtypes(endianness=e)),
        ENDIANNESS.flatmap(lambda e: npst.floating_dtypes(endianness=e)),
        ENDIANNESS.flatmap(lambda e: npst.complex_number_dtypes(endianness=e)),
        npst.byte_string_dtypes(min_len=1, max_len=9),
    )


FIELD_NAMES = st.from_regex(r"[A-Za-zµ_][A-Za-z0-9 ./_]{0,8}", fullmatch=True)
FIELDS = st.one_of(
    st.tuples(FIELD_NAMES, scalars()),
    st.tuples(FIELD_NAMES, scalars(), npst.array_shapes(max_dims=2, max_side=3)),
)


@st.composite
def structures(draw: st.DrawFn, depth: int = 1) -> np.dtype:
    fields = draw(st.lists(FIELDS, min_size=1, max_size=4, unique_by=lambda f: f[0]))
    if depth and draw(st.booleans()):
        fields.append(("nested field", draw(structures(depth=0))))
    return np.dtype(fields, align=draw(st.booleans()))


DTYPES = st.one_of(scalars(), structures())


def filled(dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """An array of random bits, but for booleans, which are 0 or 1."""
    random = np.random.default_rng(seed)
    array = np.zeros(shape, dtype)
    fill(array, random)
    return array


def fill(array: np.ndarray, random: np.random.Generator) -> None:
    if array.dtype.names is not None:
        for name in array.dtype.names:
            fill(array[name], random)
    elif array.dtype.kind == "b":
        array[...] = random.integers(0, 2, array.shape)
    elif array.dtype.kind == "S":
        array[...] = random.integers(0, 10**9, array.shape).astype("S")
    else:
        array[...] = (random.standard_normal(array.shape) * 100).astype(array.dtype)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal in names, values and byte order, whatever the padding."""
    if expected.dtype.names is None:
        return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()
    return found.dtype.names == expected.dtype.names and all(
        same(np.ascontiguousarray(found[name]), np.ascontiguousarray(expected[name]))
        for name in expected.dtype.names
    )


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Stored array in format")
@settings(max_examples=60, deadline=None)
@given(
    dtype=DTYPES,
    shape=npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
    seed=st.integers(0, 2**31),
)
def test_rows_of_any_fixed_width_dtype_come_back_bit_for_bit(dtype, shape, seed) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        array = filled(dtype, shape, seed)
        np.save(root / "a.npy", array)
        config = make_config(root, duplicates="append", order="name")
        for name in ("1.npy", "2.npy"):
            (root / "drop" / name).hardlink_to(root / "a.npy")

        progress = take_all(config)

        assert (progress.files, progress.quarantined) == (2, 0)
        with h5py.File(root / "out.h5", "r") as file:
            found = file["data"][:]
        assert same(found[: len(array)], array)
        assert same(found[len(array) :], array)
        assert verify(root / "out.h5", None).ok


REFUSED = [
    np.array([{}], dtype=object),
    np.array(["text"]),
    np.array([5], "m8"),
    np.zeros(2, [("a", "i4"), ("when", "M8")]),
    np.zeros(2, [("a", "i4"), ("text", "U3", (2,))]),
    np.zeros(2, [("a", [("deep", "O")])]),
    np.zeros(2, np.dtype([])),
    np.zeros(2, [("a", "i4", (0,))]),
    np.zeros(2, [(("title", "a"), "i4")]),
    np.zeros(2, [("a\0b", "i4"), ("a\0c", "i4")]),
    np.zeros((2, 0)),
]


@pytest.mark.parametrize("array", REFUSED, ids=lambda array: str(array.dtype)[:30])
def test_what_cannot_grow_in_hdf5_is_quarantined_and_the_next_file_is_taken(
    tmp_path, array: np.ndarray
) -> None:
    config = make_config(tmp_path, order="name")
    np.save(tmp_path / "drop" / "1.npy", array, allow_pickle=True)
    np.save(tmp_path / "drop" / "2.npy", np.array([(7,)], [("a", "<i4")]))

    with mock.patch("ingestd.pipeline.decode.GRACE_SECONDS", 0.0):
        progress = take_all(config)

    assert (progress.files, progress.quarantined) == (1, 1)
    reason = json.loads((tmp_path / "failed" / "1.npy.reason.json").read_text())
    assert reason["expected"]
    assert reason["found"]
    assert reason["do"]
    with h5py.File(tmp_path / "out.h5", "r") as file:
        assert file["data"]["a"].tolist() == [7]
