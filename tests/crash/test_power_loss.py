"""Power is lost: of what was written since the last sync, the disk has any part, in any order.

Then an output may be ruined, since HDF5 changes its metadata in place. Mostly it is recovered with
all that was committed, else refused in words. Should HDF5 crash on it, or be held by it, when it is
written later on, the process dies; but no wrong row is ever taken for right.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from daemon import World
from pwrites import (
    STRACE,
    WHY_SKIPPED,
    Event,
    Mark,
    Resize,
    State,
    Sync,
    Trace,
    Write,
    in_a_fork,
)
from test_replay_daemon import CONFIG, build, recorded_run, recovered_and_used


@pytest.mark.timeout(900)
@pytest.mark.skipif(not STRACE, reason=WHY_SKIPPED)
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("count", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_after_a_loss_of_power_an_output_is_recovered_or_refused(
    compression: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world", CONFIG.replace("COMPRESSION", compression))
    (world.root / "data").mkdir()
    monkeypatch.chdir(world.root)
    for rows in (5, 1, 40):
        world.drop_pair(rows)
        world.drop_lone(rows + 2)
    world.run_once()
    for rows in (17, 3, 9, 64, 130, 7, 8, 11, 30, 2, 5):
        world.drop_pair(rows)
        world.drop_lone(rows + 2)
    copies = tmp_path / "copies"
    trace = recorded_run(world, copies)

    ends: Counter[str] = Counter()
    for state in lost(trace, copies, random.Random(count), count):
        shutil.rmtree(tmp_path / "at", ignore_errors=True)
        build(state, copies, tmp_path / "at")
        error = in_a_fork(lambda: recovered_and_used(tmp_path / "at", readers=False))
        refused = error is not None and error.startswith("BrokenInvariant")
        ends["recovered" if error is None else "refused" if refused else error] += 1

    print(dict(ends))
    wrong = [end for end in ends if not end.startswith(("recovered", "refused", "died of SIG"))]
    assert not wrong
    assert ends["recovered"]


def lost(trace: Trace, copies: Path, chance: random.Random, count: int) -> list[State]:
    """States of the output: all that was written before its last sync, and half of what was later.

    The ledger is as it stood when it last called no file pending: that was durable.
    """
    path, events = trace.target, trace.events
    syncs = [0, *(i for i, e in enumerate(events) if e == Sync(path)), len(events)]
    spans = [(a, b) for a, b in pairwise(syncs) if any(map(changed(path), events[a:b]))]
    states = []
    for _ in range(count):
        start, stop = chance.choice(spans)
        end = chance.randrange(start, stop) + 1
        kept = [e for e in filter(changed(path), events[start:end]) if chance.random() < 0.5]
        image = [b.image for b in replace(trace, events=(*events[:start], *kept)).states()]
        marks = [e.text for e in events[:end] if isinstance(e, Mark) and settled(copies, e)]
        states.append(State(end, [trace.before or b"", *image][-1], [None, *marks][-1]))
    return states


def changed(path: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Write | Resize) and event.path == path


def settled(copies: Path, mark: Mark) -> bool:
    """Whether the ledger at this mark calls no file pending: the output was just synced."""
    with closing(sqlite3.connect(copies / f"{mark.text}.sqlite")) as ledger:
        query = "SELECT count(*) FROM files WHERE state = 'pending'"
        return bool(ledger.execute(query).fetchone()[0] == 0)
