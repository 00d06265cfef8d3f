"""Outputs that captures name: no row comes twice, and one that cannot be had stops no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import Daemon, drop, run, until

CONFIG = """
sources:
  runs:
    drop: drop
    match: "{run}_{seq:d}.npy"
    after: %s
    quarantine: failed
    output: data/{run}.h5
"""


def world(root: Path, after: str = "{move: done}") -> None:
    (root / "x.yaml").write_text(CONFIG % after)


def drop_rows(root: Path, name: str, *rows: int) -> None:
    drop(root / "drop" / name, lambda path: np.save(path, np.array(rows)))


def rows_of(output: Path) -> list[int]:
    with h5py.File(output) as file:
        return list(file["/data"][:])


def test_a_lost_ledger_doubles_no_row_of_files_that_stay(tmp_path: Path) -> None:
    world(tmp_path, after="keep")
    drop_rows(tmp_path, "a_1.npy", 1, 2)
    drop_rows(tmp_path, "b_1.npy", 3)
    run("run", "--once", "-c", "x.yaml", cwd=tmp_path)
    shutil.rmtree(tmp_path / "state")

    run("run", "--once", "-c", "x.yaml", cwd=tmp_path)

    assert rows_of(tmp_path / "data/a.h5") == [1, 2]
    assert rows_of(tmp_path / "data/b.h5") == [3]


@pytest.mark.parametrize("name", ["x" * 240, "taken", "directory"])
def test_a_name_of_which_no_output_can_be_made_costs_the_file(tmp_path: Path, name: str) -> None:
    world(tmp_path)
    (tmp_path / "data/directory.h5").mkdir(parents=True)
    (tmp_path / "data/taken.h5").write_text("something else")
    drop_rows(tmp_path, f"{name}_1.npy", 1)
    drop_rows(tmp_path, "right_2.npy", 2)

    run("run", "--once", "-c", "x.yaml", cwd=tmp_path, code=1)

    assert len(list((tmp_path / "failed").glob(f"{name[:200]}*.npy"))) == 1
    assert rows_of(tmp_path / "data/right.h5") == [2]


def test_an_open_output_that_is_moved_away_costs_the_late_file(tmp_path: Path) -> None:
    world(tmp_path)
    with Daemon(tmp_path) as daemon:
        drop_rows(tmp_path, "old_1.npy", 1)
        until((tmp_path / "done/old_1.npy").exists, "the first file is done")
        (tmp_path / "data/old.h5").rename(tmp_path / "old.h5")
        drop_rows(tmp_path, "old_2.npy", 2)
        drop_rows(tmp_path, "new_3.npy", 3)
        until((tmp_path / "failed/old_2.npy").exists, "the late one is quarantined")
        until((tmp_path / "done/new_3.npy").exists, "another is taken")
        daemon.stop()
    assert rows_of(tmp_path / "old.h5") == [1]
    assert rows_of(tmp_path / "data/new.h5") == [3]


def test_an_output_of_another_daemon_that_the_name_would_fit_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.yaml").write_text("sources: {s: {drop: drop, output: ../data/other.h5}}")
    world(tmp_path)
    with Daemon(other) as daemon:
        drop(other / "drop/a.npy", lambda path: np.save(path, np.array([1])))
        until((other / "done/s/a.npy").exists, "the other one has it open")
        drop_rows(tmp_path, "a_1.npy", 2)

        run("run", "--once", "-c", "x.yaml", cwd=tmp_path)

        daemon.stop()
    assert rows_of(tmp_path / "data/a.h5") == [2]
    assert rows_of(tmp_path / "data/other.h5") == [1]
