"""HDF5, NeXus and netCDF-4 drop files: what is a member, and what is refused in which words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ingestd.errors import BadFile
from ingestd.formats.hdf5 import Hdf5, Hdf5Options
from ingestd.formats.inchild import ChildFile
from ingestd.isolated import links

ROWS = np.arange(24.0).reshape(6, 4)


def opened(fill: Callable[[h5py.File], Any], **options: Any) -> ChildFile:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        fill(file)
    return Hdf5().open(io.BytesIO(out.getvalue()), Hdf5Options(**options))


def rows(file: ChildFile, member: str, slab_bytes: int = 64) -> np.ndarray:
    return np.concatenate(list(file.slabs(member, slab_bytes)))


def refusal(file: ChildFile, member: str) -> str:
    with pytest.raises(BadFile) as caught:
        rows(file, member)
    info = file.members[member]
    assert info.refused is None or info.refused.found in caught.value.found
    return str(caught.value)


def test_links_are_other_names_of_a_dataset_and_circles_end() -> None:
    def fill(file: h5py.File) -> None:
        file["a/b/x"] = ROWS
        file["a/b/up"] = file["a"]
        file["c"] = h5py.SoftLink("a/b")
        file["d"] = h5py.SoftLink("/c/x")
        file["nowhere"] = h5py.SoftLink("/none")
        file["round"] = h5py.SoftLink("/round")
        file["root"] = h5py.SoftLink("/")
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
        file["through"] = h5py.SoftLink("/elsewhere")

    file = opened(fill)

    assert {n: i.link_to for n, i in file.members.items() if "up" not in n} == {
        "/a/b/x": "",
        "/c/x": "/a/b/x",
        "/d": "/a/b/x",
    }
    assert np.array_equal(rows(file, "/c/x"), ROWS)


def test_links_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for number in range(6):
            file.create_group(f"g{number}")
        for one in range(6):
            file[f"g{one}/x"] = one
            for other in range(6):
                file[f"g{one}/to{other}"] = h5py.SoftLink(f"/g{other}")
        monkeypatch.setattr(links, "LINKS_MAX", 500)
        assert len(list(links.Links(file.id).datasets())) < 500
        monkeypatch.setattr(links, "LINKS_MAX", 10)
        with pytest.raises(BadFile, match="more than 10 links"):
            links.Links(file.id)
        monkeypatch.setattr(links, "LINKS_MAX", 500)
        monkeypatch.setattr(links, "DATASETS_MAX", 5)
        with pytest.raises(BadFile, match="6 datasets"):
            list(links.Links(file.id).datasets())


def test_soft_links_that_multiply_end() -> None:
    def fill(file: h5py.File) -> None:
        file["x"] = ROWS
        file["r"] = h5py.SoftLink("/r/r/r/r/r/r/r/r")
        for number in range(1, 17):
            file[f"s{number}"] = h5py.SoftLink(f"/s{number - 1}/." + f"/s{number - 1}/." * 30)

    assert list(opened(fill).members) == ["/x"]


@pytest.mark.parametrize(
    "dtype",
    [
        ">i2",
        "f2",
        "c8",
        "?",
        "V3",
        "S5",
        h5py.enum_dtype({"off": 0, "on": 1}, "i2"),
        np.dtype([("a", "i1"), ("b", [("c", "<f8", (2, 3))])]),
        [("on", h5py.enum_dtype({"on": 1}, "u1"))],
    ],
    ids=str,
)
def test_types_arrive_with_all_that_h5py_knows_of_them(dtype: Any) -> None:
    values = np.zeros(6, dtype)

    file = opened(lambda f: f.create_dataset("x", data=values, dtype=dtype))

    assert file.members["/x"].dtype == np.dtype(dtype)
    enum = h5py.check_enum_dtype(np.dtype(dtype))
    assert h5py.check_enum_dtype(file.members["/x"].dtype) == enum
    assert rows(file, "/x").tobytes() == values.tobytes()


def test_text_of_any_length_needs_a_width() -> None:
    def fill(file: h5py.File) -> None:
        file["t"] = ["ab", "é", ""]
        file["one"] = "title"

    without, file = opened(fill), opened(fill, string_bytes=6)

    assert "string_bytes: N" in refusal(without, "/t")
    assert file.members["/t"].dtype == np.dtype("S6")
    assert rows(file, "/t").tolist() == [b"ab", "é".encode(), b""]
    assert [slab.tolist() for slab in file.slabs("/one", 100)] == [b"title"]


def test_text_longer_than_the_width_is_refused() -> None:
    file = opened(lambda f: f.create_dataset("t", data=["ab", "long"]), string_bytes=3)

    assert "text of 4 bytes; expected text of 3 bytes or less" in refusal(file, "/t")


def test_what_has_no_rows_is_refused_if_asked_for(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["x"] = ROWS
        file.create_dataset("ragged", (2,), h5py.vlen_dtype("i4"))
        file.create_dataset("ref", data=file["x"].ref, dtype=h5py.ref_dtype)
        file.create_dataset("rec", (2,), [("t", h5py.string_dtype())])
        file["empty"] = h5py.Empty("f4")
        outside = [(str(tmp_path / "raw"), 0, 32)]
        file.create_dataset("raw", (4,), "f8", external=outside)
        layout = h5py.VirtualLayout((2, 6, 4), "f8")
        layout[0] = h5py.VirtualSource("other.h5", "x", (6, 4))
        file.create_virtual_dataset("far", layout)
        layout = h5py.VirtualLayout((6, 4), "f8")
        layout[...] = h5py.VirtualSource(".", "gone", (6, 4))
        file.create_virtual_dataset("lost", layout)
        layout = h5py.VirtualLayout((4,), "f8")
        layout[...] = h5py.VirtualSource(".", "raw", (4,))
        file.create_virtual_dataset("far_raw", layout)
        layout = h5py.VirtualLayout((4,), "f8")
        layout[...] = h5py.VirtualSource(".", "itself", (4,))
        file.create_virtual_dataset("itself", layout)
        file.create_dataset("huge", (1 << 40,), "f8", chunks=(100,))
        file.create_dataset("lump", (1 << 26,), "f8", chunks=(1 << 26,))

    file = opened(fill)

    assert np.array_equal(rows(file, "/x"), ROWS)
    assert "arrays of variable length" in refusal(file, "/ragged")
    assert "references" in refusal(file, "/ref")
    assert "no fixed width" in refusal(file, "/rec")
    assert "it is empty" in refusal(file, "/empty")
    assert "another file" in refusal(file, "/raw")
    assert "another file" in refusal(file, "/far_raw")
    assert "without end" in refusal(file, "/itself")
    assert "'other.h5'" in refusal(file, "/far")
    assert "'gone' is not in this file" in refusal(file, "/lost")
    assert "ratio_max" in refusal(file, "/huge")
    assert "chunks of 536,870,912" in refusal(file, "/lump")


def test_filters_of_hdf5plugin_are_undone() -> None:
    import hdf5plugin

    how = hdf5plugin.Bitshuffle(cname="lz4")

    file = opened(lambda f: f.create_dataset("x", data=ROWS, chunks=(4, 4), **how))

    assert np.array_equal(rows(file, "/x"), ROWS)


def test_slabs_begin_at_chunks_where_they_hold_one() -> None:
    file = opened(lambda f: f.create_dataset("x", data=ROWS, chunks=(2, 4)))

    assert [len(slab) for slab in file.slabs("/x", 3 * 32)] == [2, 2, 2]
    assert [len(slab) for slab in file.slabs("/x", 32)] == [1] * 6


def test_a_netcdf_variable_is_as_it_is_stored() -> None:
    def fill(file: h5py.File) -> None:
        packed = file.create_dataset("t", data=np.array([1, -9, 3], "i2"), fillvalue=-9)
        packed.attrs["scale_factor"], packed.attrs["_FillValue"] = 0.1, np.int16(-9)

    assert rows(opened(fill), "/t").tolist() == [1, -9, 3]


def test_a_file_that_its_writer_did_not_close_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="v110") as file:
        file["x"] = ROWS
        file.swmr_mode = True
        file.flush()
        data = path.read_bytes()

    with pytest.raises(BadFile, match="has not closed it") as caught:
        Hdf5().open(io.BytesIO(data), Hdf5Options())

    assert "ingestd repair" in caught.value.remedy


@pytest.mark.parametrize(
    ("head", "words"),
    [(b"CDF\x01", "netCDF-3"), (b"CDF\x05", "netCDF-3"), (b"\x0e\x03\x13\x01", "HDF4")],
)
def test_formats_of_the_same_suffix_are_told_apart(head: bytes, words: str) -> None:
    with pytest.raises(BadFile, match=f"the file is {words}"):
        Hdf5().open(io.BytesIO(head + bytes(600)), Hdf5Options())


def test_a_file_without_datasets_is_refused() -> None:
    with pytest.raises(BadFile, match="it has none"):
        opened(lambda file: file.create_group("g"))


def test_a_block_before_the_file_is_passed_over() -> None:
    out = io.BytesIO()
    with h5py.File(out, "w", userblock_size=1024) as file:
        file["x"] = ROWS

    file = Hdf5().open(io.BytesIO(out.getvalue()), Hdf5Options())

    assert np.array_equal(rows(file, "/x"), ROWS)
