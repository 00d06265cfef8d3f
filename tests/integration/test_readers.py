"""Readers in Python beside a real daemon that is killed: each row once, in order, whoever reads."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ENVIRONMENT, SECONDS
from station import Station, put

import ingestd
from ingestd.tail import Block, WriterGone

CONFIG = """
state: state
commit: {every: 50ms}
sources:
  a: {drop: drop, order: name, output: out.h5}
"""


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """A daemon that takes files of two rows from ``drop``."""
    with Station(tmp_path, CONFIG) as station:
        yield station


def drop(cwd: Path, numbers: Iterable[int]) -> None:
    for number in numbers:
        put(cwd / f"drop/{number:05}.npy", number)


def numbers(blocks: Iterable[Block[np.ndarray]]) -> list[int]:
    """The number of each file in the blocks, each whole."""
    rows = np.concatenate([np.empty((0, 2), int), *(block.rows for block in blocks)])
    assert np.array_equal(rows[:, 1], np.arange(len(rows)) % 2)
    return [int(n) for n in rows[::2, 0]]


def take(tail: Any, rows: int) -> list[Block[np.ndarray]]:
    """Blocks, until there are so many rows."""
    blocks: list[Block[np.ndarray]] = []
    while sum(map(len, blocks)) < rows:
        blocks.append(next(tail))
    return blocks


def test_a_tail_sees_every_row_once_though_the_daemon_is_killed_twice(tmp_path: Path) -> None:
    blocks: list[Block[np.ndarray]] = []
    with ingestd.open_tail(tmp_path / "out.h5", timeout=SECONDS) as tail:
        for first in (0, 200, 400):
            with Station(tmp_path, CONFIG) as station:
                drop(tmp_path, range(first, first + 200))
                blocks += take(tail, 1)
                if first < 400:
                    station.kill()
                else:
                    blocks += take(tail, 1200 - sum(map(len, blocks)))

    assert numbers(blocks) == list(range(600))
    assert [file.name for b in blocks for file in b.files] == [f"{n:05}.npy" for n in range(600)]
    assert all(a.stop == b.start for a, b in itertools.pairwise(blocks))


def test_a_position_is_taken_up_by_another_process(tmp_path: Path, station: Station) -> None:
    program = (
        "import sys, pickle, ingestd\n"
        "start = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "with ingestd.open_tail('out.h5', '/data', start, timeout=30, max_rows=3) as tail:\n"
        "    block = next(tail)\n"
        "    print(block.start, block.stop, pickle.dumps(tail.position).hex())\n"
    )
    position, ranges = pickle.dumps(0).hex(), []
    drop(tmp_path, range(2))

    for step in range(4):
        command = [sys.executable, "-c", program, position]
        done = subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        start, stop, position = done.stdout.split()
        ranges.append((int(start), int(stop)))
        drop(tmp_path, [2 + step])

    assert ranges[0][0] == 0
    assert all(a[1] == b[0] < b[1] for a, b in itertools.pairwise(ranges))


def test_threads_that_share_a_tail_get_each_row_once(tmp_path: Path, station: Station) -> None:
    blocks: list[Block[np.ndarray]] = []
    done = threading.Event()
    with ingestd.open_tail(tmp_path / "out.h5", stop=done, max_rows=10) as tail:
        threads = [threading.Thread(target=lambda: blocks.extend(tail)) for _ in range(4)]
        for thread in threads:
            thread.start()
        drop(tmp_path, range(100))
        station.until(lambda: sum(map(len, list(blocks))) >= 200, "all rows are read")
        done.set()
        for thread in threads:
            thread.join(SECONDS)

    assert sorted(numbers(sorted(blocks, key=lambda block: block.start))) == list(range(100))


def read_in_child(tail: Any, rows: int, found: Queue[list[int]]) -> None:
    found.put(numbers(take(tail, rows)))


def in_child(method: str, tail: Any, rows: int) -> list[int]:
    context: Any = multiprocessing.get_context(method)
    found = context.Queue()
    child = context.Process(target=read_in_child, args=(tail, rows, found))
    child.start()
    try:
        got: list[int] = found.get(timeout=SECONDS)
    finally:
        child.join(SECONDS)
    assert child.exitcode == 0
    return got


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_reads_on_by_itself_while_threads_of_its_parent_read(
    tmp_path: Path, station: Station
) -> None:
    drop(tmp_path, range(10))
    station.until_empty("drop")
    done = threading.Event()
    with (
        ingestd.open_tail(tmp_path / "out.h5", timeout=SECONDS) as tail,
        ingestd.open_tail(tmp_path / "out.h5", stop=done) as other,
        ingestd.open(tmp_path / "out.h5") as view,
    ):
        take(tail, 20)
        busy = [
            threading.Thread(target=lambda: list(other)),
            threading.Thread(target=lambda: [view["/data"][:] for _ in iter(done.is_set, True)]),
        ]
        for thread in busy:
            thread.start()
        drop(tmp_path, range(10, 20))

        got = [in_child("fork", tail, 20) for _ in range(3)]

        done.set()
        for thread in busy:
            thread.join(SECONDS)
        mine = numbers(take(tail, 20))

    assert got == [list(range(10, 20))] * 3
    assert mine == list(range(10, 20))


def test_a_spawned_child_reads_on_from_the_position(tmp_path: Path, station: Station) -> None:
    drop(tmp_path, range(4))
    with ingestd.open_tail(tmp_path / "out.h5", timeout=SECONDS) as tail:
        take(tail, 8)
        drop(tmp_path, range(4, 8))

        got = in_child("spawn", tail, 8)

    assert got == list(range(4, 8))


def test_async_for_gives_each_row_once_though_waits_are_given_up(
    tmp_path: Path, station: Station
) -> None:
    async def read() -> list[int]:
        blocks: list[Block[np.ndarray]] = []
        with ingestd.open_tail(tmp_path / "out.h5", timeout=SECONDS, max_rows=7) as tail:
            for number in range(60):
                drop(tmp_path, [number])
                try:
                    blocks.append(await asyncio.wait_for(anext(tail), 0.001 * (number % 9)))
                except TimeoutError:
                    continue
            async for block in tail:
                blocks.append(block)
                if block.stop == 120:
                    break
        return numbers(blocks)

    assert asyncio.run(read()) == list(range(60))


def test_a_tail_says_that_the_daemon_is_gone(tmp_path: Path, station: Station) -> None:
    path = tmp_path / "out.h5"
    drop(tmp_path, range(3))
    station.until(path.exists, "the daemon has the output")

    with ingestd.open_tail(path, timeout=SECONDS, writer_gone="raise", gone_seconds=0) as tail:
        got = numbers(take(tail, 6))
        alive = tail.writer_alive
        station.kill()
        with pytest.raises(WriterGone, match="Start one: ingestd run"):
            next(tail)
        dead = tail.writer_alive
    with ingestd.open_tail(path, writer_gone="stop", gone_seconds=0) as tail:
        rest = numbers(tail)

    assert got == rest == [0, 1, 2]
    assert (alive, dead) == (True, False)


def test_a_view_grows_through_a_kill(tmp_path: Path) -> None:
    with Station(tmp_path, CONFIG) as station:
        drop(tmp_path, range(3))
        station.until_empty("drop")
        view = ingestd.open(tmp_path / "out.h5")
        before = view["/data"][:, 0].tolist()
        station.kill()
    with view, Station(tmp_path, CONFIG) as station:
        drop(tmp_path, range(3, 5))
        station.until(lambda: len(view["/data"]) == 10, "the view sees new rows")
        after = view["/data"][-4:, 0].tolist()

    assert before == [0, 0, 1, 1, 2, 2]
    assert after == [3, 3, 4, 4]
