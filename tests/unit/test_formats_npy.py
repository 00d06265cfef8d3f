"""The header of ``.npy``: read as a literal, believed only if the file can hold what it says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from contract.format_cases import joined, npy, npy_header, open_bytes

from ingestd.errors import BadFile


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_each_version_of_the_header_is_read(version: tuple[int, int]) -> None:
    array = np.zeros(3, [("µ" if version == (3, 0) else "x", "<f4")])
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)

    opened = open_bytes("npy", out.getvalue())

    assert joined(opened, "data", 8).tobytes() == array.tobytes()
    assert opened.members["data"].dtype == array.dtype


def test_a_header_that_python_2_wrote_is_read() -> None:
    data = npy_header("'<i2'", "(2L, 3L)") + bytes(12)

    assert open_bytes("npy", data).members["data"].shape == (2, 3)


@pytest.mark.parametrize("descr", ["'|O'", "[('a', '<f8'), ('b', [('c', '|O')])]"])
def test_objects_are_refused_wherever_they_hide(descr: str) -> None:
    with pytest.raises(BadFile, match="pickled objects are never loaded"):
        open_bytes("npy", npy_header(descr, "(1,)") + bytes(100))


@pytest.mark.parametrize(
    "shape",
    [
        "(-1,)",
        "(4611686018427387904, 4)",
        "(4611686018427387904, 4611686018427387904, 0)",
        "(9223372036854775808,)",
        "(True,)",
        "(1.0,)",
        "[3]",
        "3",
        f"({'1,' * 70})",
    ],
)
def test_a_shape_that_no_array_can_have_is_refused(shape: str) -> None:
    with pytest.raises(BadFile, match="shape"):
        open_bytes("npy", npy_header("'<f8'", shape))


@pytest.mark.parametrize(
    "descr",
    ["'f8,i4'", "'V99999999999'", "('<f8', (3,))", "{}", "'<M8[x]'"],
)
def test_a_dtype_that_numpy_does_not_write_is_refused(descr: str) -> None:
    with pytest.raises(BadFile, match="dtype"):
        open_bytes("npy", npy_header(descr, "(1,)"))


@pytest.mark.parametrize(
    "text", ["(" * 5000, "-" * 5000 + "1", "1if 1 else " * 900, "'\\d'", "9" * 5000, "{[]: 1}"]
)
def test_a_header_that_is_no_plain_literal_is_refused(text: str) -> None:
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()

    with pytest.raises(BadFile, match="header"):
        open_bytes("npy", data)


def test_a_header_that_claims_gigabytes_is_refused_unread() -> None:
    with pytest.raises(BadFile, match="4,294,967,295"):
        open_bytes("npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100))


def test_bytes_after_the_array_are_refused() -> None:
    data = npy({"data": np.arange(4)})

    with pytest.raises(BadFile, match="5 more bytes follow"):
        open_bytes("npy", data + b"12345")


@pytest.mark.parametrize("slab_bytes", [1, 50, 200, 5000, 10**6])
@pytest.mark.parametrize("shape", [(70, 3), (3, 70), (2, 3, 4, 5), (5000, 4), (40, 0), (1, 9)])
def test_fortran_order_comes_in_rows(shape: tuple[int, ...], slab_bytes: int) -> None:
    array = np.asfortranarray(np.arange(np.prod(shape), dtype=np.int32).reshape(shape))

    found = joined(open_bytes("npy", npy({"data": array})), "data", slab_bytes)

    np.testing.assert_array_equal(found, array)


def test_fortran_order_with_rows_far_apart_comes_in_rows() -> None:
    array = np.asfortranarray(np.arange(200_000.0).reshape(100_000, 2))

    found = joined(open_bytes("npy", npy({"data": array})), "data", 1 << 18)

    np.testing.assert_array_equal(found, array)
