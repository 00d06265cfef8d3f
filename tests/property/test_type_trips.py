"""Values of every type make the trip from a file's array to a reader of the live dataset unchanged.

No daemon and no format: arrays go through the plan, the cast and the sink as a format gives them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from flows import make_source
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo
from ingestd.model import RowType
from ingestd.pipeline.plan import cast, check_types, dataset_spec, plan_rows
from ingestd.sinks.hdf5 import Hdf5Sink

ORDER = st.sampled_from("<>")
COLOURS = {"RED": 0, "GREEN": 1, "BLUE": 2}


def enums() -> st.SearchStrategy[np.dtype]:
    bases = st.sampled_from(["i1", "u1", "<i2", ">i2", "<u4", ">i8"])
    return bases.map(lambda base: h5py.enum_dtype(COLOURS, basetype=base))


def times() -> st.SearchStrategy[np.dtype]:
    units = st.sampled_from(["ns", "us", "ms", "s", "m", "h", "D", "W", "M", "Y", "25s", "fs"])
    return st.builds(
        lambda order, kind, unit: np.dtype(f"{order}{kind}8[{unit}]"),
        ORDER,
        st.sampled_from("mM"),
        units,
    )


SCALARS = st.one_of(
    npst.boolean_dtypes(),
    ORDER.flatmap(lambda e: npst.integer_dtypes(endianness=e)),
    ORDER.flatmap(lambda e: npst.unsigned_integer_dtypes(endianness=e)),
    ORDER.flatmap(lambda e: npst.floating_dtypes(endianness=e)),
    ORDER.flatmap(lambda e: npst.complex_number_dtypes(endianness=e)),
    st.sampled_from([np.dtype("g"), np.dtype(">g"), np.dtype("G")]),
    npst.byte_string_dtypes(min_len=1, max_len=9),
    st.integers(1, 40).map(lambda size: np.dtype(f"V{size}")),
    enums(),
    times(),
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
FIELDS = st.one_of(
    st.tuples(NAMES, SCALARS),
    st.tuples(NAMES, SCALARS, npst.array_shapes(max_dims=2, max_side=3)),
)


@st.composite
def compounds(draw: st.DrawFn, depth: int = 1) -> np.dtype:
    fields = draw(st.lists(FIELDS, min_size=1, max_size=4, unique_by=lambda f: f[0]))
    if depth and draw(st.booleans()):
        fields.append(("nested in", draw(compounds(depth=0))))
    return np.dtype(fields, align=draw(st.booleans()))


def filled(dtype: np.dtype, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Any bits that ``dtype`` may have."""
    array = np.zeros(shape, dtype)
    if dtype.names is not None:
        for name in dtype.names:
            array[name] = filled(dtype[name].base, array[name].shape, random)
    elif "enum" in (dtype.metadata or {}):
        array[...] = random.integers(0, 3, shape)
    elif dtype.kind == "b":
        array[...] = random.integers(0, 2, shape)
    elif dtype.char in "gG":
        array[...] = random.standard_normal(shape)
    else:
        array = np.frombuffer(random.bytes(array.nbytes), dtype).reshape(shape)
    return array


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """The same bytes, of the same type; times as their integers, whatever the padding."""
    if expected.dtype.names is not None:
        return found.dtype.names == expected.dtype.names and all(
            same(np.ascontiguousarray(found[name]), np.ascontiguousarray(expected[name]))
            for name in expected.dtype.names
        )
    if expected.dtype.kind in "mM":
        expected = expected.view(f"{expected.dtype.byteorder}i8")
    assert h5py.check_enum_dtype(found.dtype) == h5py.check_enum_dtype(expected.dtype)
    return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def take(sink: Hdf5Sink, root: Path, *arrays: np.ndarray, **dataset: object) -> RowType:
    """What the flow does with files of ``arrays``, one after the other."""
    source = make_source(root, datasets={"/data": dataset})
    for array in arrays:
        members = {"data": ArrayInfo(array.dtype, array.shape)}
        ((path, (_, row_type)),) = plan_rows(source.datasets, members).items()
        check_types(
            source.output, {n: t for n, t in sink.types.items() if n == path}, {path: row_type}
        )
        sink.ensure({path: dataset_spec(source.datasets[path], row_type, len(array))}, {})
        sink.append(path, cast(array, row_type.dtype))
    return row_type


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.one_of(SCALARS, compounds()),
    shape=npst.array_shapes(min_dims=1, max_dims=3, max_side=4),
    compression=st.sampled_from(["none", "none", "gzip", "lzf", "zstd"]),
    seed=st.integers(0, 2**31),
)
def test_values_of_any_type_are_read_as_they_came(dtype, shape, compression, seed) -> None:
    random = np.random.default_rng(seed)
    arrays = [filled(dtype, shape, random) for _ in range(3)]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        sink = Hdf5Sink(root / "out.h5")
        take(sink, root, *arrays[:2], compression=compression)
        sink.close()
        sink = Hdf5Sink(root / "out.h5")
        take(sink, root, arrays[2], compression=compression)
        sink.close()
        with h5py.File(root / "out.h5", "r") as file:
            found = file["data"][:]

    assert same(found, np.concatenate(arrays).astype(dtype))


@pytest.mark.parametrize("unit", ["datetime64[ns]", "timedelta64[25s]"])
def test_times_are_integers_whose_unit_an_attribute_tells(tmp_path, unit: str) -> None:
    times = np.array([0, 7, "NaT"], unit)
    sink = Hdf5Sink(tmp_path / "out.h5")

    take(sink, tmp_path, times)
    sink.close()

    with h5py.File(tmp_path / "out.h5") as file:
        dataset = file["data"]
        assert dataset.dtype == np.int64
        np.testing.assert_array_equal(dataset[:].view(dataset.attrs["units"]), times)


def test_times_in_fields_have_an_attribute_each(tmp_path) -> None:
    dtype = np.dtype([("at", "<M8[ms]"), ("span", [("long", "<m8[h]", (2,)), ("n", "i4")])])
    sink = Hdf5Sink(tmp_path / "out.h5")

    row_type = take(sink, tmp_path, np.zeros(3, dtype))
    held = sink.types["/data"]
    sink.close()

    assert held == row_type
    with h5py.File(tmp_path / "out.h5") as file:
        assert dict(file["data"].attrs) == {
            "at.units": "datetime64[ms]",
            "span.long.units": "timedelta64[h]",
        }


@pytest.mark.parametrize("other", ["M8[us]", "m8[ns]", "i8"])
def test_times_in_another_unit_are_refused(tmp_path, other: str) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")
    take(sink, tmp_path, np.zeros(3, "M8[ns]"))

    with pytest.raises(BadFile, match=r"datetime64\[ns\]"):
        take(sink, tmp_path, np.zeros(3, other))
    sink.close()


def test_integers_are_times_where_the_config_says_so(tmp_path) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")

    take(sink, tmp_path, *[np.arange(3)] * 2, attrs={"units": "datetime64[s]"})

    assert sink.rows("/data") == 6
    with pytest.raises(BadFile, match="Take 'units' out of 'attrs'"):
        take(Hdf5Sink(tmp_path / "b.h5"), tmp_path, np.zeros(3, "M8[ns]"), attrs={"units": "mm"})
    sink.close()


@pytest.mark.parametrize("dtype", ["i4", "f8", "S8"])
def test_times_become_nothing_but_64_bits(tmp_path, dtype: str) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")

    with pytest.raises(BadFile, match="Leave 'dtype' out"):
        take(sink, tmp_path, np.zeros(3, "M8[ns]"), dtype=dtype)
    take(sink, tmp_path, np.arange(3).astype("M8[ns]"), dtype=">i8")
    assert sink.types["/data"].dtype == np.dtype(">i8")
    sink.close()


def test_an_enumeration_with_other_names_is_refused(tmp_path) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")
    colours = h5py.enum_dtype(COLOURS, basetype="i2")
    take(sink, tmp_path, np.zeros(2, [("c", colours)]))

    with pytest.raises(BadFile, match="'GREEN': 1"):
        other = h5py.enum_dtype({"RED": 1, "GREEN": 2}, basetype="i2")
        take(sink, tmp_path, np.zeros(2, [("c", other)]))
    # A format without enumerations has their values all the same.
    take(sink, tmp_path, np.ones(2, [("c", "i2")]))
    assert h5py.check_enum_dtype(sink.types["/data"].dtype["c"]) == COLOURS
    sink.close()


@pytest.mark.parametrize("text", [["ab", "c"], ["Ä", "鉄ö"], ["", "a" * 16]])
@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
def test_unicode_is_stored_as_utf_8_of_the_width_declared(
    tmp_path, compression: str, text: list[str]
) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")

    take(sink, tmp_path, np.array(text), dtype="S16", compression=compression, fill="Ä")
    sink.close()

    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].asstr()[:].tolist() == text
        assert h5py.check_string_dtype(file["data"].dtype) == ("utf-8", 16)


def test_unicode_in_a_field_is_stored_as_utf_8_too(tmp_path) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")
    rows = np.array([("Ä", 1), ("b", 2)], [("name", "U4"), ("n", "i8")])

    take(sink, tmp_path, rows, dtype={"name": "S4", "n": "i2"})
    sink.close()

    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"][:].tolist() == [("Ä".encode(), 1), (b"b", 2)]


@pytest.mark.parametrize(
    ("rows", "dataset", "reason"),
    [
        (np.array(["ab"]), {}, "give that 'dtype'"),
        (np.array(["abc"]), {"dtype": "S2"}, "wider 'dtype'"),
        (np.array(["鉄"]), {"dtype": "S2"}, "wider 'dtype'"),
        (np.array(["\ud800"]), {"dtype": "S8"}, "Correct the text"),
        (np.array(["ab"]), {"dtype": "f4"}, "does not convert"),
        (np.array([b"ab"], "O"), {"dtype": "S8"}, "variable length"),
        (np.array([("ab", 70000)], "U2,i4"), {"dtype": "S2,i2"}, "integers that fit int16"),
        (np.array([("ab", 7)], "U2,i4"), {"dtype": "S1,i2"}, "wider 'dtype'"),
        (np.zeros(2, "M8"), {}, r"like M8\[ns\]"),
        (np.zeros(2, ">c32"), {}, "complex128"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(tmp_path, rows, dataset, reason) -> None:
    sink = Hdf5Sink(tmp_path / "out.h5")

    with pytest.raises(BadFile, match=reason):
        take(sink, tmp_path, rows, **dataset)
    assert not any(map(sink.rows, sink.types))
    sink.close()


def test_a_bit_field_is_read_as_the_unsigned_integer_of_its_width(tmp_path) -> None:
    with h5py.File(tmp_path / "bits.h5", "w") as file:
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"data", h5py.h5t.STD_B16BE.copy(), space)
        file["data"][:] = [1, 2, 0xFFFF]
        bits = file["data"][:]
    sink = Hdf5Sink(tmp_path / "out.h5")

    row_type = take(sink, tmp_path, bits)
    sink.close()

    assert row_type.dtype.kind == "u"
    assert row_type.dtype.itemsize == 2
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"][:].tolist() == [1, 2, 0xFFFF]


@pytest.mark.parametrize("filter_code", [h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SZIP])
def test_values_that_other_filters_packed_are_taken(tmp_path, filter_code: int) -> None:
    if not h5py.h5z.filter_avail(filter_code):
        pytest.skip("HDF5 lacks the filter")
    twelve_bits = h5py.h5t.STD_U16LE.copy()
    twelve_bits.set_precision(12)
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((8,))
    values = np.arange(8, dtype="u2") * 500
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        space = h5py.h5s.create_simple((8,))
        if filter_code == h5py.h5z.FILTER_NBIT:
            how.set_filter(filter_code, h5py.h5z.FLAG_OPTIONAL, ())
        else:
            how.set_szip(h5py.h5z.SZIP_NN_OPTION_MASK, 8)
        h5py.h5d.create(file.id, b"data", twelve_bits, space, how)
        file["data"][:] = values
        packed = file["data"][:]
    sink = Hdf5Sink(tmp_path / "out.h5")

    take(sink, tmp_path, packed)
    sink.close()

    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].dtype == "u2"
        assert np.array_equal(file["data"][:], values)
