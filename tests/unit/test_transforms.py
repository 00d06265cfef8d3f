"""The ready-made transforms: each gives what its docstring says, or refuses with a remedy."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ingestd import transforms
from ingestd.config import load
from ingestd.errors import BadFile
from tests.flows import make_config, rows_of, take_all

PAGE = (Path(__file__).parents[2] / "docs/transforms.md").read_text()
FRAMES = np.arange(2 * 4 * 6, dtype="<u2").reshape(2, 4, 6)
COLOURS = np.arange(2 * 4 * 6 * 3, dtype="u1").reshape(2, 4, 6, 3)
TABLE = np.array([(1, 2.5, b"a"), (3, 4.5, b"b")], [("n", "<i4"), ("x", "<f8"), ("s", "S1")])


def done(name: str, array: np.ndarray, **parameters: Any) -> np.ndarray:
    """What the transform ``name`` makes of the one array of a file."""
    made = getattr(transforms, name)({"data": array}, {}, **parameters)
    assert list(made) == ["data"]
    return np.asarray(made["data"])


def test_each_but_as_row_takes_slabs() -> None:
    functions = [getattr(transforms, name) for name in transforms.__all__ if name != "slabwise"]

    whole = [f.__name__ for f in functions if not getattr(f, "slabs", False)]

    assert whole == ["as_row"]


def test_members_are_changed_and_others_pass() -> None:
    arrays = {"image": FRAMES, "dark": FRAMES}

    made = transforms.crop(arrays, {}, x=[0, 2], members="image")

    assert made["image"].shape == (2, 4, 2)
    assert made["dark"] is FRAMES


def test_a_member_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(BadFile, match=r"'image', 'dark'; expected an array 'images'"):
        transforms.flip({"image": FRAMES, "dark": FRAMES}, {}, along="x", members=["images"])


def test_keep_drops_the_others() -> None:
    assert list(transforms.keep({"a": FRAMES, "b": FRAMES}, {}, members="b")) == ["b"]


# Axes


def test_as_row_makes_the_whole_array_one_row() -> None:
    assert done("as_row", FRAMES[0]).shape == (1, 4, 6)
    assert done("as_row", np.float64(3)).shape == (1,)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ({"y": [1, 3]}, FRAMES[:, 1:3]),
        ({"y": [None, -1], "x": [-2, None]}, FRAMES[:, :-1, -2:]),
        ({}, FRAMES),
    ],
)
def test_crop_cuts_rows_as_slices_do(ranges: dict[str, Any], expected: np.ndarray) -> None:
    assert np.array_equal(done("crop", FRAMES, **ranges), expected)


def test_axes_give_the_axes_of_a_row_their_names() -> None:
    made = done("crop", COLOURS, axes="yxc", y=[0, 2], c=[1, 2])

    assert np.array_equal(made, COLOURS[:, :2, :, 1:2])


@pytest.mark.parametrize("limits", [[0, 7], [3, 3], [-7, 2], [4, 2]])
def test_a_range_beyond_the_axis_is_refused(limits: list[int]) -> None:
    with pytest.raises(BadFile, match="in 'data' it is 6 long"):
        done("crop", FRAMES, x=limits)


@pytest.mark.parametrize("limits", [5, [1, 2, 3], ["a", 2], [0.0, 2]])
def test_what_is_no_range_is_refused(limits: Any) -> None:
    with pytest.raises(ValueError, match=r"write \[start, stop\]"):
        done("crop", FRAMES, x=limits)


def test_a_single_picture_is_told_to_become_a_row_first() -> None:
    with pytest.raises(BadFile, match=r"an axis 'y'.*put the step as_row before"):
        done("crop", FRAMES[0], y=[0, 2])


def test_rows_with_more_axes_than_named_are_refused() -> None:
    with pytest.raises(BadFile, match=r"with 2 axes, called 'yx'.*Set 'axes'"):
        done("flip", COLOURS, along="x", axes="yx")


@pytest.mark.parametrize(("along", "expected"), [("x", FRAMES[:, :, ::-1]), ("yx", None)])
def test_flip_mirrors_each_row(along: str, expected: np.ndarray | None) -> None:
    expected = FRAMES[:, ::-1, ::-1] if expected is None else expected

    assert np.array_equal(done("flip", FRAMES, along=along), expected)


def test_transpose_reverses_or_orders_the_axes_of_a_row() -> None:
    assert np.array_equal(done("transpose", FRAMES), FRAMES.transpose(0, 2, 1))
    made = done("transpose", COLOURS, axes="yxc", to="cyx")
    assert np.array_equal(made, COLOURS.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("to", ["y", "yy", "yxx"])
def test_transpose_wants_each_axis_once(to: str) -> None:
    with pytest.raises(ValueError, match="write each of 'yx' once"):
        done("transpose", FRAMES, to=to)


def test_patches_go_from_the_top_left_with_x_first() -> None:
    made = done("patches", FRAMES, size=[2, 3], stride=[2, 2])

    assert made.shape == (2 * 2 * 2, 2, 3)
    assert np.array_equal(made[1], FRAMES[0, 0:2, 2:5])
    assert np.array_equal(made[2], FRAMES[0, 2:4, 0:3])
    assert np.array_equal(made[4], FRAMES[1, 0:2, 0:3])


@pytest.mark.parametrize(
    ("array", "axes", "shape"),
    [(COLOURS, "yxc", (4, 4, 2, 3, 3)), (COLOURS.transpose(0, 3, 1, 2), "cyx", (4, 4, 3, 2, 3))],
)
def test_patches_keep_other_axes(array: np.ndarray, axes: str, shape: tuple[int, ...]) -> None:
    made = done("patches", array, size=[2, 3], axes=axes)

    assert made.shape == (2 * 2 * 2, *shape[2:])
    first = COLOURS[0, :2, :3] if axes == "yxc" else COLOURS[0, :2, :3].transpose(2, 0, 1)
    assert np.array_equal(made[0], first)


def test_rows_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(BadFile, match="rows of 5 points or more along y"):
        done("patches", FRAMES, size=5)


# Bins


def test_bin_sums_neighbours() -> None:
    made = done("bin", FRAMES, y=2, x=3)

    assert np.array_equal(made, FRAMES.reshape(2, 2, 2, 2, 3).sum(axis=(2, 4)))


def test_a_rest_is_refused_or_cut() -> None:
    with pytest.raises(BadFile, match=r"4 for axis 2.*Set 'edges: cut'"):
        done("bin", FRAMES, x=4)
    assert np.array_equal(
        done("bin", FRAMES, x=4, edges="cut"), FRAMES[:, :, :4].sum(2, keepdims=True)
    )


@pytest.mark.parametrize(
    ("dtype", "factors", "expected"),
    [
        ("u1", {"x": 2}, "u2"),
        ("<u2", {"y": 4, "x": 6}, "u4"),
        ("i1", {"x": 2}, "i2"),
        ("?", {"y": 2}, "u1"),
        ("<f2", {"y": 2}, "f4"),
        ("<f4", {"y": 2}, "f4"),
        (">f8", {"y": 2}, "f8"),
    ],
)
def test_bins_have_a_dtype_that_holds_any_sum(
    dtype: str, factors: dict[str, int], expected: str
) -> None:
    kind = np.dtype(dtype).kind
    largest = np.iinfo(dtype).max if kind in "iu" else 1
    array = np.full((1, 4, 6), largest, dtype)

    made = done("bin", array, **factors)

    assert made.dtype == np.dtype(expected)
    assert made.flat[0] == largest * np.prod(list(factors.values()))


@pytest.mark.parametrize("value", [2**63, -(2**63)])
def test_a_sum_beyond_64_bits_is_refused(value: int) -> None:
    array = np.full((1, 1, 2), value, "u8" if value > 0 else "i8")

    with pytest.raises(BadFile, match=r"cast: \{dtype: float64\}"):
        done("bin", array, x=2)


def test_a_large_sum_within_64_bits_is_exact() -> None:
    array = np.array([[[2**62 + 1, 2**62 - 2**54]]], "<i8")

    assert done("bin", array, x=2).item() == 2**63 - 2**54 + 1


@pytest.mark.parametrize("wrong", [{"x": 0}, {"x": 1.5}, {"x": 2, "edges": "crop"}])
def test_a_wrong_factor_or_word_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="write"):
        done("bin", FRAMES, **wrong)


# Values


def test_cast_rounds_floats_to_integers() -> None:
    made = done("cast", np.array([0.5, 1.5, 2.6, -1.2]), dtype="int16")

    assert made.dtype == np.int16
    assert made.tolist() == [0, 2, 3, -1]


@pytest.mark.parametrize(
    ("array", "dtype", "clipped"),
    [
        (np.array([-1, 300]), "u1", [0, 255]),
        (np.array([2**63, 5], "u8"), "i8", [2**63 - 1, 5]),
        (np.array([1e30, -np.inf]), "i8", [2**63 - 1, -(2**63)]),
        (np.array([9.3e18, 3.0], "f4"), "i8", [2**63 - 1, 3]),
        (np.array([np.inf, 1], "f2"), "u4", [2**32 - 1, 1]),
        (np.array([1e39, -1e39]), "f4", [float(np.finfo("f4").max), -float(np.finfo("f4").max)]),
    ],
)
def test_cast_refuses_or_clips_what_does_not_fit(
    array: np.ndarray, dtype: str, clipped: list[Any]
) -> None:
    with pytest.raises(BadFile, match=r"numbers that fit .*or 'overflow: clip'"):
        done("cast", array, dtype=dtype)
    assert done("cast", array, dtype=dtype, overflow="clip").tolist() == clipped


def test_a_nan_is_no_integer_even_when_clipped() -> None:
    with pytest.raises(BadFile, match="values from nan"):
        done("cast", np.array([1.0, np.nan]), dtype="u1", overflow="clip")


def test_nan_and_inf_stay_floats() -> None:
    made = done("cast", np.array([np.nan, np.inf, -np.inf]), dtype="float32")

    assert np.array_equal(made, np.array([np.nan, np.inf, -np.inf], "f4"), equal_nan=True)


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.array([1j]), "real numbers"), (TABLE, "expected numbers"), (np.array([b"a"]), "numbers")],
)
def test_cast_takes_real_numbers_only(array: np.ndarray, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        done("cast", array, dtype="float32")


@pytest.mark.parametrize("wrong", [{"dtype": "S4"}, {"dtype": "u1", "overflow": "wrap"}])
def test_cast_says_what_it_can_be_asked(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="write"):
        done("cast", FRAMES, **wrong)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("u1", "f4"), ("<i4", "f8"), ("f2", "f4"), (">f4", "f4"), ("f8", "f8"), ("c8", "c8")],
)
def test_scale_keeps_the_precision(given: str, expected: str) -> None:
    array = np.array([[1, 2], [3, 4]], given)

    made = done("scale", array, factor=0.5, offset=-1)

    assert made.dtype == np.dtype(expected)
    assert np.array_equal(made, [[-0.5, 0], [0.5, 1]])
    assert np.array_equal(array, [[1, 2], [3, 4]])


def test_scale_takes_a_number_for_each_column() -> None:
    made = done("scale", np.array([[1.0, 2], [3, 4]]), factor=[1, 10], offset=[0, 1])

    assert made.tolist() == [[1, 21], [3, 41]]


def test_scale_refuses_a_list_of_another_length() -> None:
    with pytest.raises(BadFile, match="whose last axis has 3 indices"):
        done("scale", np.zeros((4, 2)), factor=[1, 2, 3])


# Columns


def test_columns_of_a_table_go_by_number() -> None:
    table = np.arange(6).reshape(2, 3)

    assert done("select", table, columns=[2, 0]).tolist() == [[2, 0], [5, 3]]
    assert done("select", table, columns=1).tolist() == [1, 4]


def test_columns_of_a_compound_go_by_name() -> None:
    made = done("select", TABLE, columns=["s", "n"])

    assert made.dtype == np.dtype([("s", "S1"), ("n", "<i4")])
    assert made.tolist() == [(b"a", 1), (b"b", 3)]
    assert done("select", TABLE, columns="x").tolist() == [2.5, 4.5]


@pytest.mark.parametrize(
    ("array", "columns"),
    [(np.zeros((2, 3)), 3), (np.zeros((2, 3)), "x"), (np.zeros(2), 0), (TABLE, ["n", "y"])],
)
def test_a_column_that_is_not_there_is_refused(array: np.ndarray, columns: Any) -> None:
    with pytest.raises(BadFile, match=r"expected a column .*Set 'columns'"):
        done("select", array, columns=columns)


# In a config, and in the documents


@pytest.mark.parametrize("rows", [1, 50])
def test_steps_of_a_config_make_the_rows_of_a_dataset(tmp_path: Path, rows: int) -> None:
    frames = np.arange(rows * 40 * 60, dtype="<u4").reshape(rows, 40, 60)
    steps = [{"crop": {"y": [0, 20]}}, {"bin": {"x": 2}}, {"scale": {"factor": 0.5}}]
    config = make_config(tmp_path, transform=steps)
    np.save(tmp_path / "drop/a.npy", frames)

    assert take_all(config).quarantined == 0

    expected = frames[:, :20].reshape(rows, 20, 30, 2).sum(3) * 0.5
    assert np.array_equal(rows_of(tmp_path / "out.h5"), expected)


def test_each_picture_is_a_row_of_its_own(tmp_path: Path) -> None:
    config = make_config(tmp_path, transform=["as_row", {"crop": {"y": [0, 2], "x": [1, 3]}}])
    np.save(tmp_path / "drop/a.npy", FRAMES[0])
    np.save(tmp_path / "drop/b.npy", FRAMES[1])

    assert take_all(config).quarantined == 0

    assert np.array_equal(rows_of(tmp_path / "out.h5"), FRAMES[:, :2, 1:3])


def test_the_page_of_transforms_names_each_of_them() -> None:
    missing = [name for name in transforms.__all__ if f"`{name}" not in PAGE and name != "slabwise"]

    assert missing == []


def test_configs_of_the_page_of_transforms_are_right(tmp_path: Path) -> None:
    found = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

    for number, block in enumerate(found):
        (tmp_path / f"{number}.yaml").write_text(block)
        load(tmp_path / f"{number}.yaml")

    assert found


def test_steps_in_the_table_of_the_page_can_be_called() -> None:
    steps = [yaml.safe_load(step) for step in re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)]

    for step in steps:
        ((name, parameters),) = step.items() if isinstance(step, dict) else [(step, {})]
        inspect.signature(getattr(transforms, name)).bind({}, {}, **parameters)

    assert len(steps) == len(transforms.__all__) - 1
