"""Rounds: everybody takes in the same files in turn, again and again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import installed
from benchmarks.processes import INGEST_ONCE, Run, measured
from benchmarks.workloads import Inputs, Workload, check, make, restore

FLOOR, DURABLE, DAEMON = "floor", "floor + sync", "ingestd"
_SPARE_BYTES = 256 << 20
_PLAIN = [sys.executable, "-I", "-S", str(Path(__file__).with_name("floor.py"))]


@dataclass
class Contestant:
    """Who runs: its command, the same with nothing to do, and what became of each round."""

    name: str
    command: Sequence[str]
    idle: Sequence[str] | None = None
    check: Callable[[Run], None] = lambda run: None
    runs: list[Run] = field(default_factory=list)
    idle_runs: list[Run] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """One workload's: what was taken in, by whom, and who was not there."""

    workload: Workload
    inputs: Inputs
    contestants: list[Contestant]
    missing: list[str]


@dataclass(frozen=True)
class Rules:
    """How long it goes on. Who took longer than ``patience_seconds`` once does not run again."""

    scale: float = 1.0
    rounds: int = 5
    patience_seconds: float = 120.0
    peers: tuple[str, ...] | None = None  # None: the workload's own


def contest(
    workload: Workload, directory: Path, rules: Rules, say: Callable[[str], None]
) -> Result:
    """Make the files in ``directory``, run all the rounds, and remove what is large."""
    say("makes the files")
    inputs = make(workload, directory, rules.scale)
    wanted = workload.peers if rules.peers is None else rules.peers
    contestants = [
        *_floors(workload),
        _daemon(workload, directory, inputs),
        *(_peer(name, workload, inputs) for name in wanted if installed(name)),
    ]
    (directory / "idle").mkdir()
    for feed in workload.feeds:
        (directory / "idle" / "drop" / feed.name).mkdir(parents=True)
    (directory / "idle" / "ingestd.yaml").write_text(workload.config())
    for number in range(rules.rounds):
        # To and fro: nobody always runs after the same one.
        for one in contestants[:: -1 if number % 2 else 1]:
            if one.runs and one.runs[0].seconds > rules.patience_seconds:
                continue
            _turn(one, workload, directory, inputs.bytes)
            say(f"round {number + 1}: {one.name} {one.runs[-1].seconds:.2f} s")
    for kind in ("drop", "done", "idle"):
        shutil.rmtree(directory / kind)
    return Result(workload, inputs, contestants, [n for n in wanted if not installed(n)])


def warm(size: int) -> None:
    """Touch as much memory as is going to be used: a virtual machine may have given it away."""
    with Path("/proc/meminfo").open() as file:
        available = next(int(line.split()[1]) for line in file if "MemAvailable" in line)
    size = min(size, available * 1024 // 2)
    touch = "import sys; b'1' * int(sys.argv[1])"
    subprocess.run([sys.executable, "-I", "-S", "-c", touch, str(size)], check=True)


def _turn(one: Contestant, workload: Workload, directory: Path, size: int) -> None:
    """One run and, for what has to start first, one with nothing to do; outputs are removed."""
    os.sync()
    warm(size + _SPARE_BYTES)
    run = measured(one.command, directory)
    one.check(run)
    one.runs.append(run)
    restore(workload, directory)
    if one.idle:
        one.idle_runs.append(measured(one.idle, directory / "idle"))
    for left in ("copy", "out", "peer", "state", "failed", "idle/state", "idle/peer", "idle/out"):
        shutil.rmtree(directory / left, ignore_errors=True)


def _floors(workload: Workload) -> list[Contestant]:
    if workload.small:
        # With nothing to do: an interpreter that starts and ends.
        return [Contestant(FLOOR, [*_PLAIN, "drop", "done"], [*_PLAIN[:-1], "-c", ""])]
    copy = ["cp", "-r", "drop", "copy"]
    durable = ["sh", "-c", "cp -r drop copy && sync -f copy"]
    return [Contestant(FLOOR, copy), Contestant(DURABLE, durable)]


def _daemon(workload: Workload, directory: Path, inputs: Inputs) -> Contestant:
    return Contestant(
        DAEMON, INGEST_ONCE, INGEST_ONCE, lambda run: check(workload, directory, inputs)
    )


def _peer(name: str, workload: Workload, inputs: Inputs) -> Contestant:
    feeds = [f"{feed.name}={feed.compression}" for feed in workload.feeds]
    expected = {feed: str(rows) for feed, rows in inputs.rows.items()}

    def check_rows(run: Run) -> None:
        found = dict(line.split() for line in run.output.splitlines())
        if found != expected:
            raise RuntimeError(f"{workload.name}: {name} wrote {found} rows, not {expected}")

    command = [sys.executable, "-m", "benchmarks.peers", name]
    return Contestant(name, [*command, *feeds], command, check_rows)
