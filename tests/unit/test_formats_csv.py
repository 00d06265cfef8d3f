"""Tables: what is read, and that what is wrong is named by its line and cell."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from contract.format_cases import open_bytes
from pydantic import ValidationError

from ingestd.config import columns_key
from ingestd.errors import BadFile
from ingestd.formats import csvlines
from ingestd.formats.csv import Csv, CsvOptions


def read(text: str | bytes, member: str = "data", dtype: object = None, **options: object):
    data = text.encode() if isinstance(text, str) else text
    opened = open_bytes("csv", data, **options)
    slabs = list(opened.slabs(member, 64, None if dtype is None else np.dtype(dtype)))
    return np.concatenate(slabs).tolist() if slabs else []


@pytest.mark.parametrize(
    ("text", "options", "rows"),
    [
        ("1,2\n3,4\n", {}, [[1, 2], [3, 4]]),
        ("1\t2\n", {}, [[1, 2]]),
        ("1;2\n", {}, [[1, 2]]),
        (" 1   2\n10  20\n", {}, [[1, 2], [10, 20]]),
        ("1\n2\n", {}, [[1], [2]]),
        ("1|2\n", {"delimiter": "|"}, [[1, 2]]),
        ("temperature (K);a, b\n1;2\n", {}, [[1, 2]]),
        ("temperature in K\n1\n", {"delimiter": ","}, [[1]]),
        ("\ufeffa,b\r\n1,2\r\n", {}, [[1, 2]]),
        ("# made by hand\n\n1,2 # first\n#\n3,4\n\n", {}, [[1, 2], [3, 4]]),
        ("a report\nof 2 lines\n1,2\n", {"skip": 2}, [[1, 2]]),
        ("1,2\n3,4\n", {"header": True}, [[3, 4]]),
        ("2theta,I\n3,4\n", {}, [[3, 4]]),
        ('"x, mm","y"\n3,4\n', {}, [[3, 4]]),
        ("1,2", {"final_newline": "optional"}, [[1, 2]]),
        ("inf,-Infinity\n", {}, [[np.inf, -np.inf]]),
        ("a,b\n", {}, []),
    ],
)
def test_a_table_is_cut_as_it_is_meant(text: str, options: dict[str, object], rows: list) -> None:
    assert read(text, **options) == rows


def test_a_latin_1_file_needs_its_encoding_said() -> None:
    data = "T (°C),b\n1,2\n".encode("latin-1")

    assert read(data, "T (°C)", encoding="latin-1") == [1]
    with pytest.raises(BadFile, match="line 1 holds the bytes"):
        read(data)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "empty"),
        ("\n#\n", "no row"),
        ("1,2\n3,4", "cut short"),
        ("a,b", "cut short"),
        ("1,2\n\n3\n", "line 3 has 1"),
        ("#\n1,2\n3,4,5\n", "line 3 has 3"),
        ("a,b\n1,2\n3,x\n", "line 3, column 2 holds 'x'"),
        ("1,2\n3,\n", "line 2, column 2 is empty"),
        ("1,2\n3,1_0\n", "line 2, column 2 holds '1_0'"),
        ("1,2\n3,1e999\n", "line 2, column 2 holds '1e999'"),
        ("1,2\n3,4\x00\n", "line 2 holds a NUL byte"),
        ("1;2\n3;4,5\n", "line 2, column 2 holds '4,5'"),
        ("x,1\n1,2\n", "line 1 holds 'x'"),
        ("12:30,13:45\n", "line 1 holds '12:30'"),
        ("1,2\r3,4\n", "line 1 holds"),
        ("9,8\n1,2\r3,4\n", "line 2 has 3"),
        ("1\n" * 500 + "y\n", "line 501, column 1 holds 'y'"),
        ("1\n" + "z" * 99 + "\n", "line 2, column 1 holds '" + "z" * 40 + "...'"),
    ],
)
def test_a_fault_is_named_by_its_line_and_cell(text: str, found: str) -> None:
    with pytest.raises(BadFile) as caught:
        read(text)

    assert found in caught.value.found


def test_utf_16_is_refused_with_the_way_out() -> None:
    with pytest.raises(BadFile, match="UTF-8"):
        read("1,2\n".encode("utf-16"))
    with pytest.raises(BadFile, match="UTF-8"):
        read("1,2\n".encode("utf-16"), final_newline="optional")


def test_whole_numbers_are_exact_beyond_what_a_float_holds() -> None:
    limits = [-(2**63), 2**53 + 1, 2**63 - 1]

    found = read("".join(f"{value}\n" for value in limits), dtype="<i8")

    assert found == [[value] for value in limits]
    assert read(f"{2**64 - 1}\n", dtype="<u8") == [[2**64 - 1]]


@pytest.mark.parametrize(
    ("cell", "dtype"),
    [
        ("1.5", "<i8"),
        ("1.0", "<i8"),
        ("9223372036854775808", "<i8"),
        ("-1", "|u1"),
        ("256", "|u1"),
        ("nan", "<i4"),
        ("", "<i4"),
        ("1e39", "<f4"),
        ("70000", "<f2"),
        ("1j", "<f8"),
    ],
)
def test_a_number_that_the_dtype_does_not_hold_is_refused(cell: str, dtype: str) -> None:
    with pytest.raises(BadFile, match="line 2, column 1"):
        read(f"0,0\n{cell},0\n", dtype=dtype)


def test_integers_are_exact_with_a_numpy_that_would_round_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingestd.formats.csvrows._NUMPY_REFUSES_INEXACT_INTEGERS", False)

    assert read("1\n", dtype="<i8") == [[1]]
    with pytest.raises(BadFile, match=r"holds '1\.5'"):
        read("1\n1.5\n", dtype="<i8")


@pytest.mark.parametrize("dtype", ["|b1", "<M8[s]", "<f16"])
def test_a_dtype_that_text_is_not_read_to_gives_floats(dtype: str) -> None:
    assert read("1.5\n", dtype=dtype) == [[1.5]]


def test_a_column_is_read_by_name_whatever_the_others_hold() -> None:
    text = "when,T,unit\n12:30,1.5,°C\n12:31,2.5,鉄\n"

    assert read(text, "T") == [1.5, 2.5]
    with pytest.raises(BadFile, match="line 2, column 1 holds '12:30'"):
        read(text, "when")
    with pytest.raises(BadFile, match="line 4 has 2"):
        read(text + "12:32,3.5\n", "T")


LOG = """\
when,T,count,unit
12:30,1.5,7,°C
12:31,NA,8,"a, b"
12:32,,9,
"""


def test_named_columns_become_the_fields_of_a_row() -> None:
    key = columns_key(["count", "when", "T"])
    dtype = [("n", "u2"), ("when", "S5"), ("T", "f4")]

    found = read(LOG, key, dtype, missing=["", "NA"])

    assert found[0] == (7, b"12:30", 1.5)
    assert found[2][:2] == (9, b"12:32")
    assert np.isnan([found[1][2], found[2][2]]).all()


def test_columns_without_a_dtype_are_floats() -> None:
    opened = open_bytes("csv", b"a,b,c\n1,2,3\n4,5,6\n")
    key = columns_key(["c", "a"])

    (slab,) = opened.slabs(key, 1000)

    assert slab.dtype == opened.members[key].dtype == np.dtype([("c", "f8"), ("a", "f8")])
    assert slab.tolist() == [(3, 1), (6, 4)]
    assert columns_key(["a", "x"]) not in opened.members
    assert list(opened.members) == ["a", "b", "c", "data"]


def test_text_is_read_where_the_dtype_is_text() -> None:
    assert read(LOG, "unit", "S4") == ["°C".encode(), b"a, b", b""]
    assert read("a,b\nx,1\n", dtype="S2", header=True) == [[b"x", b"1"]]
    with pytest.raises(BadFile, match=r"line 3, column 4 holds 'a, b'.*S4 at least"):
        read(LOG, "unit", "S3")


@pytest.mark.parametrize("missing", [["", "NA"], ["", "NA", "1.5"], ["NA", "", "-"]])
def test_missing_values_are_nan(missing: list[str]) -> None:
    found = read(LOG, "T", missing=missing)

    assert np.isnan(found).tolist() == ["1.5" in missing, True, True]
    with pytest.raises(BadFile, match="line 3, column 2 holds 'NA'"):
        read(LOG, "T")


@pytest.mark.parametrize("missing", [["-999"], ["-999", "NA"]])
def test_an_integer_cannot_be_missing(missing: list[str]) -> None:
    with pytest.raises(BadFile, match=r"line 2, column 1 holds '-999'.*'dtype: float64'"):
        read("a,b\n-999,3\n", "a", "i4", missing=missing)
    assert read("a,b\n-999,3\n", "b", "i4", missing=missing) == [3]


def test_missing_values_in_the_first_row_are_no_names() -> None:
    assert read("1,NA\n2,3\n", missing=["NA"])[1] == [2, 3]
    with pytest.raises(BadFile, match="holds 'NA', which may be a name"):
        read("1,NA\n2,3\n")


def test_numbers_in_quotes_are_numbers() -> None:
    assert read('"1.5","2"\n3,4\n') == [[1.5, 2], [3, 4]]
    with pytest.raises(BadFile, match="line 2 has 1"):
        read('1,2\n"3,4"\n')
    with pytest.raises(BadFile, match="line 2, column 1 holds"):
        read('1,2\n"3,4\n5,6\n')
    with pytest.raises(BadFile, match="line 2, column 1 is empty"):
        read('"1"\n""\n"3"\n')


@pytest.mark.parametrize(
    "dtype", [[("a", "f8", (2,)), ("b", "f8")], [("a", [("x", "f8")]), ("b", "f8")]]
)
def test_a_cell_is_one_value(dtype: list) -> None:
    with pytest.raises(BadFile, match="a dtype without fields"):
        read("a,b\n1,2\n", columns_key(["a", "b"]), dtype)


def test_columns_are_read_the_same_in_slabs_of_any_size() -> None:
    text = "a,b,c\n" + "".join(f"{i},{i / 7},t{i % 13}\n" for i in range(3000))
    opened = open_bytes("csv", text.encode())
    dtype = np.dtype([("c", "S3"), ("a", "i4"), ("b", "f8")])
    expected = [(f"t{i % 13}".encode(), i, i / 7) for i in range(3000)]

    for slab_bytes in (64, 1000, 10**6):
        slabs = list(opened.slabs(columns_key(["c", "a", "b"]), slab_bytes, dtype))
        assert all(slab.nbytes <= max(slab_bytes, 15) for slab in slabs)
        assert np.concatenate(slabs).tolist() == expected


def test_names_that_stand_twice_or_are_empty_mean_no_column() -> None:
    members = open_bytes("csv", b",a,b,a,data\n1,2,3,4,5\n").members

    assert {name: info.shape for name, info in members.items()} == {"b": (None,), "data": (None, 5)}


def test_a_line_without_end_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvlines, "LINE_BYTES_MAX", 100_000)

    with pytest.raises(BadFile, match="line 1 is longer"):
        read("1" * 300_000 + "\n")
    with pytest.raises(BadFile, match="line 2 is longer"):
        read("1\n" + "1" * 300_000 + "\n")


def test_too_many_columns_are_refused_uncut() -> None:
    with pytest.raises(BadFile, match=f"{csvlines.COLUMNS_MAX:,} columns"):
        read("," * csvlines.COLUMNS_MAX + "\n")


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 8, 100])
def test_blocks_are_whole_lines_and_all_of_the_file(block_bytes: int) -> None:
    for parts in itertools.product(["", "1", "12", "12345"], repeat=3):
        data = "\n".join(parts).encode()

        blocks = [bytes(b) for b in csvlines.whole_lines(io.BytesIO(data), 0, 1, block_bytes)]

        assert b"".join(blocks) == data
        assert all(block.endswith(b"\n") for block in blocks[:-1])
        assert all(len(b) <= block_bytes or b.count(b"\n", 0, -1) == 0 for b in blocks)


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ", "},
        {"delimiter": "1"},
        {"delimiter": ""},
        {"comment": "//"},
        {"comment": " "},
        {"comment": ";", "delimiter": ";"},
        {"encoding": "utf-16"},
        {"encoding": "nope"},
        {"skip": -1},
        {"header": "maybe"},
        {"final_newline": "never"},
        {"separator": ","},
        {"missing": [" NA"]},
        {"missing": "NA"},
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CsvOptions.model_validate(options)


def test_rows_below_the_names_are_left_out_as_asked() -> None:
    text = b"a,b\nm,s\n(first),(second)\n1,2\n3,4\n"

    opened = Csv().open(io.BytesIO(text), CsvOptions(skip_after_header=2))

    assert np.concatenate(list(opened.slabs("data", 100))).tolist() == [[1, 2], [3, 4]]
    assert next(opened.slabs("b", 100)).tolist() == [2, 4]


@pytest.mark.parametrize("count", [0, 1])
def test_a_table_of_nothing_but_names_and_units_has_no_rows(count: int) -> None:
    text = b"a,b\nm,s\n"[: 4 + 4 * count]

    opened = Csv().open(io.BytesIO(text), CsvOptions(skip_after_header=count))

    assert sum(map(len, opened.slabs("data", 100))) == 0
