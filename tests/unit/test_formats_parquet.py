"""Parquet, Arrow and Feather: which columns are taken, as what, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from contract.format_cases import open_bytes

from ingestd.errors import BadFile

pa = pytest.importorskip("pyarrow", reason="pip install 'ingestd[parquet]'")
pq = pytest.importorskip("pyarrow.parquet", reason="pip install 'ingestd[parquet]'")
feather = pytest.importorskip("pyarrow.feather", reason="pip install 'ingestd[parquet]'")


def parquet(table: object, **how: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **how)
    return out.getvalue()


def ipc(table: object, **how: object) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema, options=pa.ipc.IpcWriteOptions(**how)) as writer:  # type: ignore[attr-defined]
        writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def as_feather(table: object) -> bytes:
    out = io.BytesIO()
    feather.write_feather(table, out)
    return out.getvalue()


def column(data: bytes, name: str, slab_bytes: int = 8, **options: object) -> np.ndarray:
    return np.concatenate(list(open_bytes("parquet", data, **options).slabs(name, slab_bytes)))


each_kind = pytest.mark.parametrize("encode", [parquet, ipc, as_feather])


@each_kind
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1, 2, 3], pa.uint8()), np.array([1, 2, 3], "u1")),
        (pa.array([1, 2, 3], pa.float32()), np.array([1, 2, 3], "f4")),
        (pa.array([1, 2, 3]).cast(pa.float16()), np.array([1, 2, 3], "f2")),
        (pa.array([True, False, True]), np.array([1, 0, 1], bool)),
        (pa.array([1, 2, 3], pa.timestamp("ns", "UTC")), np.array([1, 2, 3], "M8[ns]")),
        (pa.array([1, 2, 3], pa.date32()), np.array([1, 2, 3], "M8[D]")),
        (pa.array([1, 2, 3], pa.time64("us")), np.array([1, 2, 3], "i8")),
        (pa.array([1, 2, 3], pa.duration("ms")), np.array([1, 2, 3], "m8[ms]")),
        (pa.array([4, 5, 4]).dictionary_encode(), np.array([4, 5, 4])),
        (pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int16(), 2)),
         np.array([[1, 2], [3, 4], [5, 6]], "i2")),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)  # fmt: skip
def test_columns_of_fixed_width_keep_their_values(
    encode: object, array: object, expected: np.ndarray
) -> None:
    data = encode(pa.table({"c": array}))  # type: ignore[operator]

    found = column(data, "c")

    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@each_kind
def test_text_is_refused_or_has_the_width_that_is_set(encode: object) -> None:
    data = encode(pa.table({"s": ["a", "żó", None], "n": [1, 2, 3]}))  # type: ignore[operator]

    with pytest.raises(BadFile, match="'s' is of type"):
        open_bytes("parquet", data)
    with pytest.raises(BadFile, match="4 bytes"):
        column(data, "s", string_bytes=3)
    with pytest.raises(BadFile, match="1 nulls"):
        column(data, "s", string_bytes=4)

    assert column(data, "s", string_bytes=4, null=0).tolist() == [b"a", "żó".encode(), b""]
    assert column(data, "data", columns=["n"]).tolist() == [(1,), (2,), (3,)]


@pytest.mark.parametrize("kind", ["categories", "large_string", "string_view"])
def test_text_of_every_kind_is_taken(kind: str) -> None:
    array = pa.array(["ab", "c", "ab"])
    array = array.dictionary_encode() if kind == "categories" else array.cast(getattr(pa, kind)())

    assert column(ipc(pa.table({"s": array})), "s", string_bytes=2).tolist() == [b"ab", b"c", b"ab"]


@each_kind
def test_nulls_are_refused_or_become_the_value_that_is_set(encode: object) -> None:
    data = encode(pa.table({"x": [1.5, None, 2.0], "n": pa.array([1, None, 3], pa.int8())}))  # type: ignore[operator]

    with pytest.raises(BadFile, match="nulls"):
        column(data, "x")

    assert column(data, "x", null=-1).tolist() == [1.5, -1, 2]
    assert np.isnan(column(data, "x", null=float("nan"))[1])
    assert column(data, "n", null=-1).tolist() == [1, -1, 3]
    for wrong in (float("nan"), 1.5, 300):
        with pytest.raises(BadFile, match="a 'null' that int8 holds"):
            column(data, "n", null=wrong)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[1], [2, 3]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([None, None]),
        pa.array([1, 2]).cast(pa.decimal128(20)),
    ],
    ids=lambda array: str(array.type),
)
def test_columns_of_no_fixed_width_are_refused_or_left_out_by_name(array: object) -> None:
    data = parquet(pa.table({"odd": array, "n": [1, 2]}))

    with pytest.raises(BadFile, match="'odd' is of type"):
        open_bytes("parquet", data)

    assert sorted(open_bytes("parquet", data, columns=["n"]).members) == ["data", "n"]


def test_columns_that_are_not_there_or_there_twice_are_refused() -> None:
    data = parquet(pa.table({"n": [1, 2]}))
    twice = ipc(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["n", "n"]))

    with pytest.raises(BadFile, match="one column 'm'"):
        open_bytes("parquet", data, columns=["m"])
    with pytest.raises(BadFile, match="one column 'n'"):
        open_bytes("parquet", twice)


def test_a_column_called_data_goes_before_the_table() -> None:
    data = parquet(pa.table({"data": [1, 2], "n": [3, 4]}))

    assert column(data, "data").tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_a_file_of_few_bytes_that_promises_many_is_refused(kind: str) -> None:
    table = pa.table({"x": pa.repeat(pa.scalar(0, pa.int64()), 10_000_000)})
    out = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, out, compression="zstd")
    else:
        feather.write_feather(table, out, compression="zstd", chunksize=5_000_000)

    with pytest.raises(BadFile, match="'ratio_max'"):
        open_bytes("parquet", out.getvalue())


def test_types_that_an_extension_gives_stay_what_they_are_stored_as_or_are_refused() -> None:
    field = pa.field(
        "e",
        pa.binary(),
        metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": b"cos\nsystem\n(S'exit 1'\ntR.",
        },
    )
    data = ipc(pa.Table.from_arrays([pa.array([b"a"])], schema=pa.schema([field])))

    with pytest.raises(BadFile):
        open_bytes("parquet", data)


def test_the_older_feather_is_refused() -> None:
    with pytest.raises(BadFile, match="version 2"):
        open_bytes("parquet", b"FEA1" + bytes(100) + b"FEA1")
