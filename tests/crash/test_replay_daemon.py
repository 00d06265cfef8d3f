"""Whatever write to an output the daemon dies after, recovery keeps what was committed.

What the daemon writes to an output is recorded; the output, its journal and the ledger are built
up to each single write, and recovered.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from daemon import World, assert_rows, expected_rows, values
from helpers import ENVIRONMENT
from pwrites import STRACE, WHY_SKIPPED, State, Trace, in_a_fork, record

import ingestd.pipeline.recover
from ingestd import layout
from ingestd.ledger import Ledger
from ingestd.pipeline.recover import recover
from ingestd.sinks.hdf5_rehearse import try_out

RECORDER = Path(__file__).with_name("recorder.py")
OUTPUT = Path("data/out.h5")
MORE = values(99_999, 70)

CONFIG = """
state: state
commit: {every: 1ms}
sources:
  pairs:
    drop: drop/pairs
    output: data/out.h5
    datasets:
      /pairs/X: {member: X, chunk_rows: 16, compression: COMPRESSION}
      /pairs/y: {member: y, chunk_rows: 16}
  lone:
    drop: drop/lone
    output: data/out.h5
    datasets:
      /lone: {chunk_rows: 8, compression: COMPRESSION}
"""


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with files waiting, which the test is in."""
    world = World(tmp_path / "world", CONFIG.replace("COMPRESSION", request.param))
    (world.root / "data").mkdir()
    for rows in (5, 1, 40, 17, 3, 9, 64, 130):
        world.drop_pair(rows)
        world.drop_lone(rows + 2)
    world.drop_bad()
    world.drop_again()
    monkeypatch.chdir(world.root)
    # Each state is tried in a fork already: more processes would take minutes.
    monkeypatch.setattr(ingestd.pipeline.recover, "rehearse", try_out)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    return world


def recorded_run(world: World, copies: Path) -> Trace:
    """What one run of the daemon does to the output; the ledger's copies go to ``copies``."""
    copies.mkdir()
    ledger = world.root / "state/ledger.sqlite"
    if ledger.exists():
        shutil.copytree(ledger.parent, copies / "before")
    command = [sys.executable, RECORDER, copies, "--", "run", "--once", "-c", "x.yaml"]
    return record(command, world.output, copies / "marks", ENVIRONMENT, ok=(0, 1))


def assert_recovers_everywhere(trace: Trace, copies: Path, at: Path) -> int:
    """Recover each state of ``trace`` below ``at``; how many there were."""
    failures, states = [], 0
    for state in trace.states(everything=True):
        states += 1
        shutil.rmtree(at, ignore_errors=True)
        build(state, copies, at)
        if error := in_a_fork(lambda: recovered_and_used(at)):
            failures.append((state.index, state.mark, error))
    assert not failures, f"{len(failures)} of {states} states: {failures[:5]}"
    return states


def build(state: State, copies: Path, at: Path) -> None:
    """The directory as it was when the daemon died."""
    (at / "data").mkdir(parents=True)
    (at / OUTPUT).write_bytes(state.image)
    for path, data in state.beside.items():
        (at / "data" / Path(path).name).write_bytes(data)
    if state.mark is not None:
        (at / "state").mkdir()
        shutil.copy(copies / f"{state.mark}.sqlite", at / "state/ledger.sqlite")
    elif (copies / "before").exists():
        shutil.copytree(copies / "before", at / "state")
    else:
        (at / "state").mkdir()


def recovered_and_used(at: Path, readers: bool = True) -> None:
    """Recover the output in ``at`` (and be in ``at`` from then on), append to it, look at it.

    ``readers``: what one could have read before is still there, too.
    """
    os.chdir(at)
    shown = shown_to_readers() if readers else {}
    ledger = Ledger(Path("state/ledger.sqlite"))
    committed = ledger.ends(str(OUTPUT))
    sink = recover(OUTPUT, ledger, Path("state"))
    ends = ledger.ends(str(OUTPUT))
    live = [name for name in sink.types if not name.startswith(layout.GROUP)]
    for name in live:
        sink.append(name, MORE[:, 0] if name.endswith("/y") else MORE)
        sink.flush()
    sink.close()

    assert not ledger.pending(str(OUTPUT))
    with h5py.File(OUTPUT, "r") as file:
        names = {name: look_through(file, name) for name in live}
        for name, (end, _) in ends.items():
            assert end >= committed[name][0], f"{name}: {end} rows, {committed[name]} before"
            assert len(file[name]) == end + len(MORE), f"{name}: {len(file[name])} rows, not {end}"
    for name, records in shown.items():
        assert names[name][: len(records)] == records, f"{name}: a reader had seen {records}"
    if "/pairs/X" in names:
        assert names["/pairs/X"] == names["/pairs/y"]


def look_through(file: h5py.File, dataset: str) -> list[str]:
    """The names of the files in ``dataset``, all of whose rows are right, and then MORE."""
    names, at = [], 0
    for row in file[layout.records_path(dataset)][:]:
        name, rows = os.fsdecode(bytes(row["name"])), int(row["rows"])
        assert row["first_row"] == at, (dataset, name)
        there = file[dataset][at : at + rows]
        assert np.array_equal(there, expected_rows(dataset, name, rows)), (dataset, name)
        names.append(name)
        at += rows
    more = MORE[:, 0] if dataset.endswith("/y") else MORE
    assert np.array_equal(file[dataset][at:], more), f"{dataset}: what was appended"
    return names


def shown_to_readers() -> dict[str, list[str]]:
    """The records that a reader who came just before could have read; none: nothing opens now."""
    shown: dict[str, list[str]] = {}
    try:
        with h5py.File(OUTPUT, "r", swmr=True, locking=False) as file:
            for name in ("/pairs/X", "/pairs/y", "/lone"):
                if name in file:
                    records = file[layout.records_path(name)][:]
                    shown[name] = [os.fsdecode(bytes(r["name"])) for r in records]
    except (OSError, KeyError):
        return {}
    return shown


@pytest.mark.timeout(300)
@pytest.mark.skipif(not STRACE, reason=WHY_SKIPPED)
@pytest.mark.parametrize("world", ["none", "gzip"], indirect=True)
def test_recovery_after_any_write_of_a_first_run(world: World, tmp_path: Path) -> None:
    trace = recorded_run(world, tmp_path / "copies")

    states = assert_recovers_everywhere(trace, tmp_path / "copies", tmp_path / "state")

    print(f"{states} states")
    assert states > 150
    assert_rows(world.output, world.good)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not STRACE, reason=WHY_SKIPPED)
@pytest.mark.parametrize("world", ["none", "gzip"], indirect=True)
def test_recovery_after_any_write_of_a_recovery(world: World, tmp_path: Path) -> None:
    world.run_killed("ingestd.ledger:Ledger.intend:before:3")
    world.drop_pair(3)

    trace = recorded_run(world, tmp_path / "copies")
    states = assert_recovers_everywhere(trace, tmp_path / "copies", tmp_path / "state")

    print(f"{states} states")
    assert states > 60
    assert_rows(world.output, world.good)
