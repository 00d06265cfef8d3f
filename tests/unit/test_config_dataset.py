"""What a dataset may be declared as."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest
from pydantic import ValidationError

from ingestd import layout
from ingestd.config import (
    INTERNAL_GROUP,
    Compression,
    Dataset,
    fill_value,
    refuse_chunks,
    refuse_dtype,
    refuse_scaleoffset,
)
from ingestd.config.values import LEVELS


def test_the_group_kept_for_provenance_is_the_layouts() -> None:
    assert INTERNAL_GROUP == layout.GROUP


@pytest.mark.parametrize("dtype", ["float32", "<u2", ">i8", "S16", "?", "c16", "f4,i4", "V8", "f2"])
def test_fixed_width_dtypes_are_taken(dtype: str) -> None:
    dataset = Dataset.model_validate({"dtype": dtype})

    assert dataset.numpy_dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [
        ("O", "use a fixed width: S16"),
        ("U8", "use S16"),
        ("U100", "use S100"),
        ("str", "use S16"),
        ("f4,U3", "use S16"),
        ("i4,O", "use a fixed width: S16"),
        ("M8[s]", "leave 'dtype' out (or write int64)"),
        ("m8", "leave 'dtype' out (or write int64)"),
        ("S", "give it one, like S16"),
        ("(2,3)f4", "write the shape as row_shape"),
        ("flaot32", "write one like float32"),
        ("f4,,", "write one like float32"),
        ("", "write one like float32"),
        (4, "write one like float32"),
        ("S99999999999999999999", "write one like float32"),
    ],
)
def test_what_cannot_grow_under_swmr_is_refused_with_a_remedy(dtype: object, remedy: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Dataset.model_validate({"dtype": dtype})

    assert remedy in str(caught.value)


def test_a_dtype_with_a_refused_field_of_arrays_is_refused() -> None:
    with pytest.raises(ValueError, match="unicode"):
        refuse_dtype(np.dtype([("a", "f4"), ("b", "U4", (2,))]))


@pytest.mark.parametrize(
    ("value", "shape"), [([], ()), ([512, 512], (512, 512)), ([1], (1,)), (None, None)]
)
def test_row_shapes_are_tuples(value: object, shape: object) -> None:
    assert Dataset.model_validate({"row_shape": value}).row_shape == shape


@pytest.mark.parametrize("value", [5, [0], [-1], [1.5], [True], "512", [2**40], [1] * 32])
def test_what_is_no_row_shape_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match=r"row shape|more than HDF5"):
        Dataset.model_validate({"row_shape": value})


def test_bytes_of_a_row_are_known_when_both_are_declared() -> None:
    declared = Dataset.model_validate({"dtype": "u2", "row_shape": [4, 5]})

    assert declared.row_bytes == 40
    assert Dataset().row_bytes is None


@pytest.mark.parametrize(
    ("text", "compression"),
    [(name, Compression(name)) for name in LEVELS]
    + [(f"{n}:{level}", Compression(n, level)) for n, r in LEVELS.items() if r for level in r],
)
def test_each_compression_is_read_and_written(text: str, compression: Compression) -> None:
    dataset = Dataset.model_validate({"compression": text})

    assert dataset.compression == compression
    assert str(dataset.compression) == text


@pytest.mark.parametrize("text", ["gzip:10", "zstd:0", "zstd:23", "blosc:-1", "gzip:", "lzf:1"])
def test_levels_that_a_filter_has_not_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"is no level|has no levels"):
        Dataset.model_validate({"compression": text})


def test_the_levels_are_those_of_the_filters() -> None:
    filters = {
        "zstd": hdf5plugin.Zstd,
        "blosc": hdf5plugin.Blosc,
        "blosc2": hdf5plugin.Blosc2,
    }

    with h5py.File.in_memory() as file:
        for name, make in filters.items():
            for level in LEVELS[name] or ():
                file.create_dataset(f"{name}{level}", data=[1], chunks=(1,), **make(clevel=level))

    assert {name for name, levels in LEVELS.items() if levels} == {"gzip", *filters}


@pytest.mark.parametrize(
    ("dtype", "fill", "value"),
    [
        ("u1", 255, np.uint8(255)),
        ("f4", -1, np.float32(-1)),
        ("f8", 0.5, np.float64(0.5)),
        ("S4", "ab", np.bytes_(b"ab")),
        ("?", True, np.True_),
        ("c8", 1.5, np.complex64(1.5)),
        ("f4,i4", 0, np.zeros(1, "f4,i4")[0]),
        ("S4", 0, np.bytes_(b"")),
    ],
)
def test_a_fill_value_is_one_of_the_dtype(dtype: str, fill: object, value: object) -> None:
    made = fill_value(np.dtype(dtype), fill)  # type: ignore[arg-type]

    assert made == value
    assert made.dtype == np.dtype(dtype) or made.dtype.kind == "S"


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("u1", 256), ("i4", 1.5), ("f4", "x"), ("?", 1), ("u1", True), ("S1", "é"), ("f4,i4", 1)],
)
def test_a_fill_value_that_the_dtype_cannot_hold_is_refused(dtype: str, fill: object) -> None:
    with pytest.raises(ValueError, match="fill"):
        fill_value(np.dtype(dtype), fill)  # type: ignore[arg-type]


def test_attributes_are_what_hdf5_takes() -> None:
    attrs = {"units": "mm", "n": 3, "offset": [0, 0.5], "on": True, "big": 2**64 - 1, "": ""}
    attrs.pop("")

    dataset = Dataset.model_validate({"attrs": attrs})

    with h5py.File.in_memory() as file:
        file.attrs.update(dataset.attrs)
    assert dataset.attrs == attrs


@pytest.mark.parametrize("value", [None, {}, [], [1, "x"], [[1]], 2**64, {"a": 1}])
def test_attributes_that_hdf5_does_not_take_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="attribute 'x'"):
        Dataset.model_validate({"attrs": {"x": value}})


def test_a_member_is_one_name_or_a_list_of_columns() -> None:
    assert Dataset.model_validate({"member": "a"}).columns == ()
    assert Dataset.model_validate({"member": '["'}).columns == ()
    assert Dataset.model_validate({"member": ["x", "T (°C)"]}).columns == ("x", "T (°C)")


@pytest.mark.parametrize(
    ("dtype", "fields"),
    [
        ("f4", [("time", "f4"), ("n", "f4")]),
        ("f8,i4", [("time", "f8"), ("n", "i4")]),
        ({"t": "f8", "count": "i4"}, [("t", "f8"), ("count", "i4")]),
        ({"t": "f8", "deep": {"a": "S8"}}, [("t", "f8"), ("deep", [("a", "S8")])]),
    ],
)
def test_columns_are_the_fields_of_a_row(dtype: object, fields: list) -> None:
    dataset = Dataset.model_validate({"member": ["time", "n"], "dtype": dtype})

    assert dataset.numpy_dtype == np.dtype(fields)


def test_there_is_a_field_for_each_column() -> None:
    with pytest.raises(ValidationError, match="2 fields for 3 columns"):
        Dataset.model_validate({"member": ["a", "b", "c"], "dtype": {"a": "f8", "b": "f8"}})
    with pytest.raises(ValidationError, match="names a column twice"):
        Dataset.model_validate({"member": ["a", "a"]})


@pytest.mark.parametrize(
    "dtype", [{"a": "O"}, {"a": "M8[s]"}, {"a": "U3"}, {"a": 4}, {}, {1: "f4"}]
)
def test_fields_that_cannot_grow_are_refused(dtype: object) -> None:
    with pytest.raises(ValidationError, match=r"variable length|64-bit|unicode|write one like"):
        Dataset.model_validate({"dtype": dtype})


@pytest.mark.parametrize("member", ["", [], 5, {}, [5]])
def test_what_names_no_member_is_refused(member: object) -> None:
    with pytest.raises(ValidationError, match="names no member"):
        Dataset.model_validate({"member": member})


@pytest.mark.parametrize(
    ("dataset", "remedy"),
    [
        ({"filters": "shuffle"}, r"like \[shuffle, fletcher32\]"),
        ({"filters": ["nbit"]}, "write scaleoffset"),
        ({"filters": ["scaleoffset:2"]}, "round floats by a transform"),
        ({"filters": ["fletcher"]}, "did you mean 'fletcher32'"),
        ({"filters": ["fletcher32", "fletcher32"]}, "write each once"),
        ({"filters": ["scaleoffset", "fletcher32"]}, "no other filter"),
        ({"filters": ["shuffle"], "compression": "blosc"}, "leave it out"),
        ({"filters": ["scaleoffset"], "compression": "zstd"}, "none or gzip, not zstd"),
        ({"filters": ["shuffle"]}, "with none it gains nothing"),
        ({"compression": "szip"}, "write gzip"),
        ({"chunks": 16}, r"\[16, 256, 256\]"),
        ({"chunks": [0, 4]}, r"\[16, 256, 256\]"),
        ({"chunks": [4, 4], "chunk_rows": 4}, "leave chunk_rows out"),
    ],
)
def test_storage_that_does_not_serve_is_refused_with_a_remedy(dataset: dict, remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        Dataset.model_validate(dataset)


@pytest.mark.parametrize(
    ("chunks", "row_shape", "remedy"),
    [
        ((16, 256), (512, 512), r"like \[1, 256, 256\]"),
        ((16, 256, 600), (512, 512), r"like \[1, 256, 256\]"),
        ((16, 2), (), r"like \[1\]"),
        ((1000, 64, 64), (512, 512), "write 512 rows or fewer"),
    ],
)
def test_chunks_have_to_fit_the_rows(chunks, row_shape, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        refuse_chunks(chunks, row_shape, 2)
    refuse_chunks((16, 256, 256), (512, 512), 2)


@pytest.mark.parametrize("dtype", ["f4", "?", "S4", "c8", "V4", "i4,i4"])
def test_scaleoffset_is_for_integers(dtype: str) -> None:
    with pytest.raises(ValueError, match="exact for integers only"):
        refuse_scaleoffset(np.dtype(dtype))


def test_a_dataset_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Dataset().stack = True  # type: ignore[misc]
