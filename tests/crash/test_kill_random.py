"""Killed at random moments, again and again, the daemon loses and doubles nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from daemon import World
from helpers import ENVIRONMENT, Daemon

from ingestd import locks

READER = Path(__file__).with_name("reader.py")
KILLS = 200

CONFIG = """
state: state
commit: {every: 50ms}
memory: 8MiB
scan: 1s
sources:
  pairs:
    drop: drop/pairs
    output: data/out.h5
    datasets:
      /pairs/X: {member: X}
      /pairs/y: {member: y}
  lone:
    drop: drop/lone
    output: data/out.h5
    datasets: {/lone: {}}
  other:
    drop: drop/other
    output: data/out.h5
    datasets: {/lone: {}}
  squeezed:
    drop: drop/squeezed
    order: name
    output: data/out.h5
    datasets: {/squeezed: {compression: gzip, chunk_rows: 64}}
  late:
    drop: drop/late
    output: data/out.h5
    datasets: {/late: {}}
"""
DATASETS = ("/pairs/X", "/pairs/y", "/lone", "/squeezed")


@pytest.mark.timeout(480)
@pytest.mark.parametrize("seed", [1])
def test_killed_200_times_at_random_each_row_is_there_once_and_the_reader_carries_on(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    world = World(tmp_path, CONFIG)
    world.drop_pair()
    for source in ("lone", "other", "squeezed"):
        world.drop_lone(source=source)
    world.run_once()
    reader = attached(world)
    began = time.monotonic()

    for turn in range(KILLS):
        drop_at_random(world, chance, with_late=turn > KILLS // 3)
        with Daemon(tmp_path) as daemon:
            daemon.until(lambda: locks.held(locks.output_lock(world.output)), "the lock is held")
            die_at = time.monotonic() + chance.uniform(0.05, 0.5)
            while (left := die_at - time.monotonic()) > 0:
                time.sleep(min(left, chance.uniform(0, 0.1)))
                drop_at_random(world, chance, with_late=turn > KILLS // 3)
            daemon.kill()
    seconds = time.monotonic() - began
    with Daemon(tmp_path) as daemon:
        # Before it is up, a signal would end it as it ends any process.
        daemon.until(lambda: locks.held(locks.output_lock(world.output)), "the lock is held")
        daemon.until(lambda: not waiting(world), "all drop directories are empty", 60)
        daemon.stop()
    saw = left_behind(reader)

    print(f"{KILLS} kills in {seconds:.0f} s, {world.numbers} files, the reader saw {saw}")
    world.assert_all_done()
    assert saw["wrong"] == []
    assert set(saw["rows"]) == set(DATASETS)


def drop_at_random(world: World, chance: random.Random, with_late: bool) -> None:
    """A few files, of any kind, for any source."""
    sources = ["lone", "other", "squeezed", *["late"] * with_late]
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        match chance.randrange(20):
            case 0:
                world.drop_bad(chance.choice(["lone", "other"]))
            case 1:
                world.drop_torn(chance.choice(["lone", "other"]))
            case 2:
                world.drop_again(chance.choice(["lone", "other", "squeezed"]))
            case 3:
                world.drop_pair(rows=chance.randrange(9_000, 24_000))
            case 4:
                world.drop_lone(chance.randrange(17_000, 24_000), chance.choice(["lone", "other"]))
            case n if n < 12:
                world.drop_pair(rows=chance.choice([1, 2, 7, 100, 1000]))
            case _:
                world.drop_lone(chance.choice([1, 3, 50, 600]), chance.choice(sources))


def waiting(world: World) -> list[str]:
    return [name for source in world.names("drop") for name in world.names("drop", source)]


def attached(world: World) -> subprocess.Popen[str]:
    """The reader, which has opened the output."""
    reader = subprocess.Popen(
        [sys.executable, READER, world.output, *DATASETS],
        env={**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{READER.parent.parent}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    return reader


def left_behind(reader: subprocess.Popen[str]) -> dict[str, object]:
    """Let it look once more; what it saw."""
    said, _ = reader.communicate("", timeout=60)
    assert reader.returncode == 0
    report: dict[str, object] = json.loads(said)
    return report
