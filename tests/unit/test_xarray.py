"""An output as an xarray dataset: lazy, of committed rows, with names, and it pickles."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from outputs import make_output

import ingestd
from ingestd import layout
from ingestd.errors import UsageError

xarray = pytest.importorskip("xarray", reason="pip install 'ingestd[xarray]'")
pytest.importorskip("dask.array", reason="pip install 'ingestd[xarray]'")


def column(rows: int) -> list[int]:
    return list(range(rows))


def test_a_variable_is_chunked_as_stored_and_reads_only_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_output(tmp_path / "out.h5", [5, 6], "/entry/data")
    ds = ingestd.open_xarray(path)
    reads = []
    getitem = h5py.Dataset.__getitem__

    def noted(self: h5py.Dataset, key: object) -> object:
        if self.name == "/entry/data":
            reads.append(key)
        return getitem(self, key)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)

    nothing_yet = list(reads)
    part = ds["data"][4:8].values

    assert ds["data"].dims == ("row", "data_1")
    assert ds["data"].chunks == ((4, 4, 3), (2,))
    assert nothing_yet == []
    assert len(reads) == 1
    assert part.tolist() == [[n, n] for n in range(4, 8)]


@pytest.mark.parametrize("chunks", ["stored", "auto", {"row": 8}, None])
def test_any_selection_gives_what_numpy_gives(tmp_path: Path, chunks: object) -> None:
    data = ingestd.open_xarray(make_output(tmp_path / "out.h5", [5, 6]), chunks=chunks)["data"]
    rows = np.repeat(np.arange(11)[:, None], 2, axis=1)

    assert data[::-2].values.tolist() == rows[::-2].tolist()
    assert data[-1].values.tolist() == rows[-1].tolist()
    assert data[[3, 1, 1]][:, 1].values.tolist() == rows[[3, 1, 1]][:, 1].tolist()
    assert data[4:4].values.shape == (0, 2)
    assert data.values.tolist() == rows.tolist()


def test_rows_that_are_not_committed_are_not_there(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5])
    with h5py.File(path, "a") as file:
        file["data"].resize(9, axis=0)

    data = ingestd.open_xarray(path)["data"]

    assert data.values[:, 0].tolist() == column(5)


def test_it_pickles_and_refresh_gives_the_longer_one(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5])
    old = ingestd.open_xarray(path, chunks=None)
    make_output(tmp_path / "longer.h5", [5, 6]).rename(path)

    copy = pickle.loads(pickle.dumps(old))
    new = copy.ingestd.refresh()

    assert old["data"].shape == copy["data"].shape == (5, 2)
    assert copy["data"].values[:, 0].tolist() == column(5)
    assert new["data"].values[:, 0].tolist() == column(11)


def test_what_was_not_opened_here_cannot_be_refreshed() -> None:
    with pytest.raises(UsageError, match="open it again"):
        xarray.Dataset().ingestd.refresh()


def test_dask_does_not_take_a_longer_file_for_the_same(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5])
    old = ingestd.open_xarray(path)
    make_output(tmp_path / "longer.h5", [5, 6]).rename(path)
    new = old.ingestd.refresh()

    assert old["data"].data.name != new["data"].data.name
    assert new["data"].data.name == old.ingestd.refresh()["data"].data.name


def test_dimensions_come_from_the_call_the_zarr_attribute_or_nexus(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5], "/entry/data")
    make_output(path, [5], "/zarr")
    make_output(path, [5], "/given")
    with h5py.File(path, "a") as file:
        file["entry"].attrs.update({"signal": "data", "axes": ["time", "."]})
        file["entry/data"].attrs["units"] = np.bytes_(b"counts")
        file["zarr"].attrs["_ARRAY_DIMENSIONS"] = ["t", "x"]
        file.attrs["title"] = "a run"

    ds = ingestd.open_xarray(path, dims={"given": ["n", "m"]})

    dims = {name: variable.dims for name, variable in ds.variables.items()}
    assert dims == {"data": ("time", "data_1"), "zarr": ("t", "x"), "given": ("n", "m")}
    assert ds["data"].attrs == {"units": "counts"}
    assert ds["zarr"].attrs == {}
    assert ds.attrs == {"title": "a run"}


def test_variables_of_one_name_go_by_their_paths(tmp_path: Path) -> None:
    path = make_output(make_output(tmp_path / "out.h5", [5], "/a/data"), [3], "/b/data")

    ds = ingestd.open_xarray(path)
    one = ingestd.open_xarray(path, ["b/data"])

    assert dict(ds.sizes) == {"a_data_row": 5, "a_data_1": 2, "b_data_row": 3, "b_data_1": 2}
    assert dict(one.sizes) == {"row": 3, "data_1": 2}


def test_datasets_in_lockstep_share_rows_up_to_the_file_that_both_have(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5, 6], "/X")
    make_output(path, [5], "/y")
    make_output(path, [2, 2], "/other")

    ds = ingestd.open_xarray(path, ["X", "y"], dims={"X": ["row", "x"], "y": ["row", "x"]})

    assert dict(ds.sizes) == {"row": 5, "x": 2}
    assert ds["X"].values[:, 0].tolist() == column(5)
    with pytest.raises(UsageError, match="of another file"):
        ingestd.open_xarray(path, ["X", "other"], dims={"X": ["row", "x"], "other": ["row", "x"]})


@pytest.mark.parametrize("dims", [["row"], ["row", "row"], ["a", "b", "c"]])
def test_dimensions_that_do_not_fit_are_refused(tmp_path: Path, dims: list[str]) -> None:
    path = make_output(tmp_path / "out.h5", [5])

    with pytest.raises(UsageError, match="Name each of them, once"):
        ingestd.open_xarray(path, dims={"/data": dims})


def test_compound_rows_stay_compound(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    rows = np.array([(1, 2.5), (3, 4.5)], [("n", "<i4"), ("x", "<f8")])
    make_output(path, [2])
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_dataset("data", data=rows, chunks=(1,), maxshape=(None,))
        assert layout.records_path("/data") in file

    data = ingestd.open_xarray(path)["data"]

    assert data.values.tolist() == rows.tolist()
