"""Two parsers read tables of numbers. What the fast one reads, numpy reads to the same values."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.errors import BadFile
from ingestd.formats import csvarrow
from ingestd.formats.csv import Csv, CsvOptions

pytest.importorskip("pyarrow", reason="pip install 'ingestd[parquet]'")

_written = st.one_of(
    st.floats(width=64).map(repr),
    st.floats(width=32).map(lambda value: f"{value:.9g}"),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-300, 70_000).map(str),
)
_odd = st.text("0123456789+-.eE \t,;|naif\r#\"'_", max_size=8)
_cells = st.one_of(_written, _written, _written, _odd)
_tables = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.lists(_cells, min_size=columns, max_size=columns), min_size=1, max_size=8
    )
)
_dtypes = st.sampled_from([*"bBhHiIqQefdg", ">i4", ">f8", ">f4"])


@given(_tables, st.sampled_from(",;\t| "), _dtypes, st.sampled_from(["\n", "\r\n", "\n\n"]))
@example([["1e400", "-1e-400"]], ",", "d", "\n")
@example([["16777217", "1e39"]], ",", "f", "\n")
@example([["18446744073709551615"], ["007"], ["+1"], ["-0"]], ",", "Q", "\n")
@example([["1.", ".5", "1e5", "1E+5", " 2 "]], ";", "d", "\n")
@example([["1", ""], ["2", "3"]], ",", "d", "\n")
@example([["1"], [" "], ["2"]], ",", "d", "\n")
@example([["127"], ["-128"], ["128"]], ",", "b", "\n")
def test_it_reads_what_numpy_reads_or_leaves_it_to_numpy(table, delimiter, char, end) -> None:
    text = "".join(delimiter.join(cells) + end for cells in table).encode()
    dtype = np.dtype(char)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csvarrow, "BLOCK_BYTES_MIN", 0)
        fast = _read(text, delimiter, dtype)
        patch.setattr(csvarrow, "BLOCK_BYTES_MIN", 1 << 30)
        slow = _read(text, delimiter, dtype)

    if isinstance(slow, str):
        assert fast == slow
    else:
        assert fast.dtype == slow.dtype
        assert fast.tobytes() == slow.tobytes()


def test_large_blocks_of_plain_numbers_are_read_by_pyarrow() -> None:
    numbers = np.random.default_rng(1).random((8000, 3))
    text = bytearray("".join(f"{a:.9f},{b:.17g},{c:e}\n" for a, b, c in numbers).encode())

    read = csvarrow.read_numbers(text, ",", 3, {0: np.dtype("f8"), 2: np.dtype("f4")})

    expected = np.loadtxt(io.BytesIO(text), delimiter=",")
    assert read is not None
    assert np.array_equal(read["0"], expected[:, 0])
    assert np.array_equal(read["2"], expected[:, 2].astype("f4"))


def test_many_columns_are_left_to_numpy() -> None:
    line = b"1.5," * 999 + b"1.5\n"
    wanted = dict.fromkeys(range(1000), np.dtype("f8"))

    assert csvarrow.read_numbers(bytearray(line * 20), ",", 1000, wanted) is None
    assert csvarrow.read_numbers(bytearray(line * 600), ",", 1000, wanted) is not None


def test_a_pyarrow_that_does_not_work_is_not_used(monkeypatch) -> None:
    def fails(name: str) -> None:
        raise AttributeError("_ARRAY_API not found")

    csvarrow._arrow.cache_clear()
    monkeypatch.setattr(csvarrow.importlib, "import_module", fails)
    text = b"1.5,2\n" * 20_000

    rows = _read(text, ",", np.dtype("f8"))

    csvarrow._arrow.cache_clear()
    assert np.array_equal(rows, np.tile([1.5, 2], (20_000, 1)))


def _read(text: bytes, delimiter: str, dtype: np.dtype) -> np.ndarray | str:
    """The rows; or what is wrong."""
    options = CsvOptions(delimiter=delimiter, header=False, final_newline="optional")
    try:
        with io.BytesIO(text) as file:
            opened = Csv().open(file, options)
            slabs = list(opened.slabs("data", 1 << 20, dtype))
    except BadFile as error:
        return str(error)
    return np.concatenate(slabs) if slabs else np.empty(0, dtype)
