"""A view answers as h5py would of a dataset that has only the committed rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingestd
from ingestd.tail import Missing, NoSuchDataset, NotAnOutput, open_view
from tests.outputs import make_output

ROWS = 12
AXIS = st.one_of(
    st.integers(-ROWS - 2, ROWS + 2),
    st.builds(slice, *[st.none() | st.integers(-ROWS - 2, ROWS + 2)] * 2, st.integers(1, 5)),
    st.lists(st.integers(-ROWS, ROWS - 1), max_size=6),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).map(np.array),
)
SELECTION = st.one_of(
    AXIS,
    st.just(()),
    st.just(...),
    AXIS.map(lambda rows: (rows, ...)),
    st.tuples(AXIS, st.sampled_from([0, -1, slice(None), slice(0, 1)])),
    st.just((..., 1)),
    st.just((..., slice(3, 9), 0)),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with 12 committed rows, and three that are not."""
    path = make_output(tmp_path_factory.mktemp("view") / "o.h5", [5, 0, 7])
    with h5py.File(path, "a") as file:
        file["data"].resize(ROWS + 3, axis=0)
    return path


@given(selection=SELECTION)
def test_selections_give_what_numpy_gives_of_the_committed_rows(path: Path, selection: Any) -> None:
    whole = np.repeat(np.arange(ROWS, dtype="<i4")[:, None], 2, axis=1)
    try:
        # NumPy would take an empty list for one of floats.
        empty = isinstance(selection, list) and not selection
        expected = whole[:0] if empty else whole[_arrays(selection)]
    except IndexError:
        expected = None

    with open_view(path) as view:
        if expected is None:
            with pytest.raises(IndexError, match="of 12 committed rows"):
                view["/data"][selection]
            return
        found = view["/data"][selection]

    assert np.array_equal(found, expected)
    assert np.shape(found) == np.shape(expected)


def _arrays(selection: Any) -> Any:
    if isinstance(selection, tuple):
        return tuple(np.array(s, int) if isinstance(s, list) else s for s in selection)
    return selection


def test_a_mask_of_values_a_step_backwards_and_a_wrong_mask(path: Path) -> None:
    mask = np.zeros((ROWS, 2), bool)
    mask[3, 1] = mask[5, 0] = True

    with open_view(path) as view:
        rows = view["/data"]
        assert rows[mask].tolist() == [3, 5]
        assert rows[mask & False].tolist() == []
        with pytest.raises(ValueError, match="step is -1"):
            rows[::-1]
        with pytest.raises(IndexError, match="mask"):
            rows[np.ones(3, bool)]


def test_fields_of_compound_rows_are_chosen_by_name(tmp_path: Path) -> None:
    path = make_output(tmp_path / "o.h5", [4])
    with h5py.File(path, "a") as file:
        rows = np.array([(n, n / 2) for n in range(4)], [("n", "i4"), ("half", "f8")])
        del file["data"]
        file.create_dataset("data", data=rows, maxshape=(None,), chunks=(2,))

    with open_view(path) as view:
        data = view["data"]

        assert data["n"].tolist() == [0, 1, 2, 3]
        assert data["half", 1:3].tolist() == [0.5, 1.0]
        assert data[-1].item() == (3, 1.5)


def test_a_view_tells_what_a_dataset_is_and_where_its_rows_came_from(path: Path) -> None:
    with open_view(path) as view:
        rows = view["/data"]

        assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == ((12, 2), "<i4", 2, 12)
        assert (list(view), "data" in view, "/none" in view) == (["/data"], True, False)
        assert np.asarray(rows).shape == (12, 2)
        assert [row[0] for row in rows] == list(range(12))
        assert view.trace("/data", 6).row_in_file == 1
        assert rows.trace(-1).row == 11
        assert [file.name for file in view.files("/data")] == ["0.npy", "1.npy", "2.npy"]
        assert view.files("/data")[-1].rows.start == 5


def test_a_view_grows_and_follows_another_file(tmp_path: Path) -> None:
    path = make_output(tmp_path / "o.h5", [3])
    other = make_output(make_output(tmp_path / "other.h5", [3, 4]), [1], "/more")

    with open_view(path) as view:
        rows = view["/data"]
        before = len(rows)
        other.replace(path)

        assert before == 3
        assert len(rows) == 7
        assert rows[-1, 0] == 6
        assert "/more" in view


def test_a_view_pickles_as_its_path(path: Path) -> None:
    with open_view(path) as view:
        copy = pickle.loads(pickle.dumps(view["/data"]))

    assert copy[3, 0] == 3
    copy.view.close()


def test_what_cannot_be_viewed_is_said_at_once(tmp_path: Path, path: Path) -> None:
    (tmp_path / "junk.h5").write_bytes(b"junk")

    with pytest.raises(Missing):
        open_view(tmp_path / "none.h5")
    with pytest.raises(NotAnOutput):
        open_view(tmp_path / "junk.h5")
    with open_view(path) as view, pytest.raises(NoSuchDataset, match="It has: /data"):
        view["/none"]


def test_the_package_gives_readers_without_importing_them_before() -> None:
    assert ingestd.open is open_view
    assert "open_tail" in dir(ingestd)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ingestd.nothing  # noqa: B018
