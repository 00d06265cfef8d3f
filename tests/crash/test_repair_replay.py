"""Whatever moment a SWMR writer dies at, ``repair`` makes its file open, whole and appendable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from pwrites import STRACE, WHY_SKIPPED, State, Trace, in_a_fork, record

import ingestd.repair
from ingestd.cli.mend import repair as repair_command
from ingestd.repair import CannotRepair, opens, repair

WRITER = """
import sys, h5py, numpy as np
path, marks, kind, turns, *made = sys.argv[1:]
turns = int(turns)
lib = ("v110", "v114")
space = {"plain": {}, "fsm": {"fs_strategy": "fsm", "fs_persist": True},
         "page": {"fs_strategy": "page", "fs_persist": True}, "user": {"userblock_size": 1024},
         "latest": {}}[kind]
if kind == "latest":
    lib = "latest"
marks = open(marks, "ab", buffering=0)
file = h5py.File(path, "w", libver=lib, **space)
file.attrs["made by"] = "a crash test"
data = {
    "plain": file.create_dataset("plain", (0, 6), maxshape=(None, 6), chunks=(8, 6), dtype="i8"),
    "deep/gzip": file.create_dataset(
        "deep/gzip", (0, 6), maxshape=(None, 6), chunks=(8, 6), dtype="i8", compression="gzip"),
}
file.create_dataset("still", data=np.arange(40))
if space.get("fs_persist"):
    file.create_dataset("free", data=np.zeros(4000))
    del file["free"]
    file.close()
    marks.write(b"closed\\n")
    file = h5py.File(path, "r+", libver=lib)
    data = {name: file[name] for name in data}
file.swmr_mode = True
marks.write(b"swmr\\n")
rows = 0
for turn in range(turns):
    more = 3 + turn % 9
    for name, dataset in data.items():
        dataset.resize(rows + more, axis=0)
        dataset[rows:] = np.arange(rows * 6, (rows + more) * 6).reshape(more, 6)
        dataset.flush()
    rows += more
    marks.write(b"%d\\n" % rows)
if made:
    marks.close()
    sys.stdin.read()
file.close()
"""
DATASETS = ("plain", "deep/gzip")


def write(directory: Path, kind: str, turns: int) -> Trace:
    script = directory / "writer.py"
    script.write_text(WRITER)
    path, marks = directory / "out.h5", directory / "marks"
    return record([sys.executable, script, path, marks, kind, str(turns)], path, marks)


def marked_rows(state: State) -> int | None:
    """Rows that the writer had flushed; None: SWMR mode had not begun."""
    if state.mark in (None, "closed"):
        return None
    return 0 if state.mark == "swmr" else int(state.mark)


def assert_rows(path: Path, at_least: int) -> None:
    with h5py.File(path, "r") as file:
        assert np.array_equal(file["still"][:], np.arange(40))
        for name in DATASETS:
            rows = file[name][:at_least]
            assert len(rows) == at_least, f"{name}: {len(rows)} rows, {at_least} were flushed"
            assert np.array_equal(rows.ravel(), np.arange(at_least * 6)), name


def append_in_swmr(path: Path, start: int) -> None:
    """Cut to the flushed rows and go on, as a restarted writer does."""
    with h5py.File(path, "r+", libver=("v110", "v114")) as file:
        for name in DATASETS:
            file[name].resize(start, axis=0)
        file.swmr_mode = True
        for rows in range(start, start + 60, 5):
            for name in DATASETS:
                file[name].resize(rows + 5, axis=0)
                file[name][rows:] = np.arange(rows * 6, rows * 6 + 30).reshape(5, 6)
                file[name].flush()


def repaired_and_used(path: Path, flushed: int) -> None:
    repair(path, backup=path.with_suffix(".json"))
    assert_rows(path, flushed)
    append_in_swmr(path, flushed)
    assert_rows(path, flushed + 60)


@pytest.fixture
def quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state is opened right after its repair here: a process for each would take minutes."""
    monkeypatch.setattr(ingestd.repair, "opens", lambda path: None)
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.mark.skipif(not STRACE, reason=WHY_SKIPPED)
@pytest.mark.parametrize(("kind", "turns"), [("plain", 30), ("user", 8), ("fsm", 12), ("page", 8)])
def test_a_swmr_writer_killed_after_any_write_leaves_a_file_that_repair_mends(
    kind: str, turns: int, tmp_path: Path, quick_look: None
) -> None:
    trace = write(tmp_path, kind, turns)
    path = tmp_path / "state.h5"

    failures, states = [], 0
    for state in trace.states():
        if (flushed := marked_rows(state)) is None:
            continue
        path.write_bytes(state.image)
        states += 1
        if error := in_a_fork(lambda flushed=flushed: repaired_and_used(path, flushed)):
            failures.append((state.index, state.mark, error))

    assert states > 9 * turns
    assert not failures


@pytest.mark.skipif(not STRACE, reason=WHY_SKIPPED)
def test_a_writer_killed_before_swmr_mode_leaves_no_file_that_crashes_repair(
    tmp_path: Path, quick_look: None
) -> None:
    trace = write(tmp_path, "plain", 1)
    path = tmp_path / "state.h5"

    outcomes: Counter[str] = Counter()
    for state in trace.states():
        if marked_rows(state) is not None:
            break
        path.write_bytes(state.image)

        def mended() -> None:
            repair(path, backup=path.with_suffix(".json"))

        error = in_a_fork(mended)
        outcomes[error or in_a_fork(lambda: assert_rows(path, 0)) or "opens"] += 1

    for outcome, count in outcomes.items():
        print(count, outcome)
    assert outcomes
    refused = [outcome for outcome in outcomes if outcome.startswith("died")]
    assert not refused
