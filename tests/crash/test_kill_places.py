"""Killed at any step, rows that are placed stand where they belong, in the output that is theirs,
and the gaps between them are empty."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from daemon import World
from helpers import drop

from ingestd import layout, tail

CONFIG = """
state: state
commit: {every: 1ms}
memory: 8MiB
sources:
  runs:
    drop: drop/runs
    match: "r{run:d}_{seq:d}.npz"
    output: data/run{run:02d}.h5
    datasets:
      /X: {place: "{seq}", fill: -1}
      /log: {member: y, compression: gzip}
"""
SINK = "ingestd.sinks.hdf5:Hdf5Sink"
LEDGER = "ingestd.ledger:Ledger"
STEPS = [
    f"{step}:{when}:{call}"
    for step, calls in {
        f"{SINK}._make": (1, 2),
        f"{SINK}._open": (2,),
        f"{SINK}.write": (1, 2, 3),
        f"{SINK}.flush": (1, 3),
        f"{LEDGER}.intend": (1,),
        "ingestd.pipeline.records:append_records": (1, 2),
        f"{LEDGER}.commit": (1,),
        "ingestd.pipeline.archive:release": (1,),
        f"{SINK}.close": (1, 2),
    }.items()
    for call in calls
    for when in ("before", "after")
]


def rows(run: int, seq: int, count: int) -> np.ndarray:
    return (run * 1000 + seq) * 10 + np.arange(count)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_placed_rows_are_whole_and_gaps_empty(step: str, tmp_path: Path) -> None:
    world = World(tmp_path, CONFIG)
    there = [(1, 6, 2), (2, 0, 3), (1, 0, 1), (2, 9, 20_000), (1, 3, 3)]

    def drop_files(files: list[tuple[int, int, int]]) -> None:
        for run, seq, count in files:
            x = rows(run, seq, count)
            path = tmp_path / f"drop/runs/r{run}_{seq}.npz"
            drop(path, lambda p, x=x: savez(p, X=x, y=x[:1]))

    drop_files(there[:3])
    world.run_killed(step)
    drop_files(there[3:])
    world.run_once()

    assert world.names("drop", "runs") == []
    for run in (1, 2):
        files = [(seq, count) for r, seq, count in there if r == run]
        expected = np.full(max(seq + count for seq, count in files), -1)
        for seq, count in files:
            expected[seq : seq + count] = rows(run, seq, count)
        path = tmp_path / f"data/run{run:02d}.h5"
        with h5py.File(path, "r") as file:
            assert np.array_equal(file["/X"][:], expected)
            assert len(file[layout.records_path("/X")]) == len(files)
            assert sorted(file["/log"][:]) == sorted(rows(run, seq, 1)[0] for seq, _ in files)
        assert tail.verify(path).ok


def savez(path: Path, **arrays: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)
