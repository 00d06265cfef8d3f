"""Transforms between a file's arrays and its rows, through the whole flow."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingestd.config import Config
from ingestd.pipeline import decode as decode_module
from ingestd.pipeline.transform import check_parts, modules_anew, transforms
from tests.flows import make_config, rows_of, take_all

MODULE = """
import numpy as np

def double(arrays, captures, by=2):
    return {name: array * by for name, array in arrays.items()}

def split(arrays, captures):
    rows = arrays["data"]
    at = np.full(len(rows), captures["run"])
    return {"/low": rows[rows < 5], "/high": rows[rows >= 5], "/at": at}

def none(arrays, captures):
    return None

def fails(arrays, captures):
    raise ValueError("no such thing")

def wrong(arrays, captures):
    return [1, 2]

def other(arrays, captures):
    return {"/elsewhere": np.arange(3)}

def slabs(arrays, captures):
    return {"data": arrays["data"].sum(axis=1)}
slabs.slabs = True

def two(arrays, captures):
    return {"/data": arrays["b"] + arrays["a"]}

BUFFER = np.zeros(4)

def reuses(arrays, captures):
    BUFFER[:] = arrays["data"]
    return {"data": BUFFER}

def exits(arrays, captures):
    raise SystemExit(3)

THING = 3
"""


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is final at once."""
    monkeypatch.setattr(decode_module, "GRACE_SECONDS", -1.0)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's, in the working directory (the config has no file)."""
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield name


def config_with(root: Path, transform: Any, **source: Any) -> Config:
    more = {"memory": "8MiB"}
    return make_config(root, more=more, transform=transform, match="run{run:d}.np?", **source)


def drop(root: Path, name: str, array: np.ndarray | dict[str, np.ndarray]) -> None:
    if isinstance(array, dict):
        np.savez(root / "drop" / name, **array)
    else:
        np.save(root / "drop" / name, array)


def reason(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / "failed" / f"{name}.reason.json").read_text())


def test_steps_are_applied_in_turn_with_their_parameters(tmp_path, beside) -> None:
    config = config_with(tmp_path, [f"{beside}:double", {f"{beside}:double": {"by": 5}}])
    drop(tmp_path, "run1.npy", np.arange(6.0))

    done = take_all(config)

    assert done.files == 1
    assert rows_of(tmp_path / "out.h5").tolist() == (np.arange(6.0) * 10).tolist()


def test_one_file_feeds_several_datasets_with_any_number_of_rows(tmp_path, beside) -> None:
    paths = {"/low": {}, "/high": {}, "/at": {}}
    config = config_with(tmp_path, f"{beside}:split", datasets=paths)
    drop(tmp_path, "run1.npy", np.arange(8))
    drop(tmp_path, "run2.npy", np.arange(3))

    take_all(config)

    assert rows_of(tmp_path / "out.h5", "/low").tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert rows_of(tmp_path / "out.h5", "/high").tolist() == [5, 6, 7]
    assert sorted(rows_of(tmp_path / "out.h5", "/at").tolist()) == [1] * 8 + [2] * 3


def test_arrays_of_several_members_meet(tmp_path, beside) -> None:
    config = config_with(tmp_path, f"{beside}:two")
    drop(tmp_path, "run1.npz", {"a": np.arange(3), "b": np.full(3, 10)})

    take_all(config)

    assert rows_of(tmp_path / "out.h5").tolist() == [10, 11, 12]


def test_a_file_that_gives_no_rows_is_done_with(tmp_path, beside) -> None:
    config = config_with(tmp_path, f"{beside}:none")
    drop(tmp_path, "run1.npy", np.arange(6.0))

    done = take_all(config)

    assert (done.files, done.skipped, done.quarantined) == (0, 1, 0)
    assert (tmp_path / "done/run1.npy").exists()


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("fails", "ValueError: no such thing"),
        ("wrong", "TypeError: it returned list, not a dict of arrays by name"),
        ("other", "others: '/elsewhere'"),
        ("split", "KeyError"),
        ("exits", "SystemExit: 3"),
    ],
)
def test_a_function_that_fails_costs_the_file(tmp_path, beside, function, found) -> None:
    config = config_with(tmp_path, f"{beside}:{function}")
    drop(tmp_path, "run1.npz", {"x": np.arange(3)})

    done = take_all(config)

    assert done.quarantined == 1
    assert found in reason(tmp_path, "run1.npz")["found"]


def test_a_function_may_return_the_same_array_filled_anew(tmp_path, beside) -> None:
    config = make_config(
        tmp_path,
        more={"workers": 1},
        transform=f"{beside}:reuses",
        match="run{run:d}.npy",
        order="{run}",
    )
    for run in range(20):
        drop(tmp_path, f"run{run}.npy", np.full(4, float(run)))

    take_all(config)

    assert rows_of(tmp_path / "out.h5")[::4].tolist() == list(range(20))


def test_the_traceback_stands_in_the_reason(tmp_path, beside) -> None:
    config = config_with(tmp_path, f"{beside}:fails")
    drop(tmp_path, "run1.npy", np.arange(3))

    take_all(config)

    details = reason(tmp_path, "run1.npy")["details"]
    assert any(f"{beside}.py" in line for line in details)
    assert details[-1] == "ValueError: no such thing"


def test_a_file_larger_than_memory_goes_through_slab_by_slab(tmp_path, beside) -> None:
    config = config_with(tmp_path, f"{beside}:slabs")
    array = np.arange(3 * 2**20, dtype="f4").reshape(-1, 16)  # 12 MiB
    drop(tmp_path, "run1.npy", array)

    done = take_all(config)

    assert done.quarantined == 0
    assert np.array_equal(rows_of(tmp_path / "out.h5"), array.sum(axis=1))


def test_a_whole_file_larger_than_memory_is_refused(tmp_path, beside) -> None:
    config = config_with(tmp_path, f"{beside}:double")
    drop(tmp_path, "run1.npy", np.zeros(3 * 2**20, dtype="f4"))

    take_all(config)

    assert "slabwise" in reason(tmp_path, "run1.npy")["do"]


def test_what_is_stacked_is_transformed_whole(tmp_path, beside) -> None:
    config = config_with(tmp_path, f"{beside}:slabs", datasets={"/data": {"stack": True}})
    drop(tmp_path, "run1.npy", np.ones((5, 3)))

    take_all(config)

    assert rows_of(tmp_path / "out.h5").tolist() == [[3.0] * 5]


@pytest.mark.parametrize(
    "transform", ["nowhere:f", "{}:nothing", "{}:THING", {"{}:double": {"bye": 2}}]
)
def test_a_function_that_cannot_be_had_is_a_mistake_of_the_config(
    tmp_path, beside, transform
) -> None:
    if isinstance(transform, dict):
        transform = {name.format(beside): parameters for name, parameters in transform.items()}
    else:
        transform = transform.format(beside)
    config = config_with(tmp_path, transform)

    (problem,) = check_parts(config)

    assert problem.location == ("sources", "s", "transform")
    assert "beside the config" in problem.text


def test_a_mended_module_is_imported_anew_when_the_config_is_taken_anew(tmp_path, beside) -> None:
    config = config_with(tmp_path, f"{beside}:fails")
    assert list(check_parts(config)) == []
    path = tmp_path / f"{beside}.py"

    path.write_text(path.read_text().replace('raise ValueError("no such thing")', "return {}"))
    with modules_anew(config):
        assert list(check_parts(config)) == []
    assert transforms(config)["s"]({}, {}) == {}

    path.write_text("1 / 0")
    with pytest.raises(RuntimeError), modules_anew(config):
        assert list(check_parts(config)) != []
        raise RuntimeError
    assert transforms(config)["s"]({}, {}) == {}
