"""Whatever moment a SWMR writer dies at, ``repair`` makes its file open, whole and appendable."""

from __future__ import annotations

import os
import random
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
from ingestd.repair import CannotRepair, repair

WRITER = """
import sys, h5py, numpy as np
path, marks, kind, turns = sys.argv[1:]
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
def test_of_a_writer_killed_before_swmr_mode_repair_says_truly_whether_the_file_opens(
    tmp_path: Path,
) -> None:
    trace = write(tmp_path, "plain", 1)
    path = tmp_path / "state.h5"

    outcomes: Counter[str] = Counter()
    for state in trace.states():
        if marked_rows(state) is not None:
            break
        path.write_bytes(state.image)
        try:
            why_not = repair(path, backup=path.with_suffix(".json")).opens
        except CannotRepair as error:
            why_not = str(error)
        unusable = in_a_fork(lambda: assert_rows(path, 0))

        # What had not left the cache of HDF5 nobody can bring back; what counts is the answer.
        assert (why_not is None) == (unusable is None), (state.index, why_not, unusable)
        outcomes[why_not or "opens"] += 1

    print(*(f"{count:4} {outcome}" for outcome, count in outcomes.items()), sep="\n")
    assert outcomes["opens"]


def kill_a_writer(path: Path, kind: str, marks: int) -> int:
    """SIGKILL after so many marks; how many rows it had flushed."""
    command = [sys.executable, "-c", WRITER, path, "/dev/stdout", kind, "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        for _ in range(marks):
            process.stdout.readline()
        process.kill()
        lines = process.stdout.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n") and line[:1].isdigit()]
    return int(whole[-1]) if whole else 0


@pytest.mark.parametrize("kind", ["latest", "fsm"])
def test_the_command_mends_the_file_of_any_writer_that_was_killed(
    kind: str, tmp_path: Path
) -> None:
    chance = random.Random(kind)

    for turn in range(8):
        path = tmp_path / f"{turn}.h5"
        flushed = kill_a_writer(path, kind, marks=3 + chance.randrange(150))
        result = CliRunner().invoke(repair_command, [str(path)])

        assert result.exit_code == 0, result.output
        assert "opens now" in result.output
        assert_rows(path, flushed)
        append_in_swmr(path, flushed)
        assert_rows(path, flushed + 60)
