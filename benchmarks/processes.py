"""Processes under measurement: a command from start to end, or a daemon that runs meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

DEADLINE_SECONDS = 30.0

ROOT = Path(__file__).resolve().parent.parent
_LAUNCH = Path(__file__).with_name("launch.py")

INGEST = [sys.executable, "-m", "ingestd", "run", "-c", "ingestd.yaml"]
INGEST_ONCE = [*INGEST, "--once"]


@dataclass(frozen=True, slots=True)
class Run:
    """One process, from its start to its end.

    ``cpu_seconds`` are user and system, with children; ``peak_mib`` is the largest resident
    size that the process, or one of its children, ever had.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def measured(command: Sequence[str], directory: Path) -> Run:
    """Run ``command`` in ``directory``.

    :raises RuntimeError: it failed; the end of its stderr is in the message.
    """
    out, log = directory / "stdout", directory / "stderr"
    launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(out), str(log), *command]
    process = subprocess.run(
        launch, cwd=directory, env=environment(), check=True, stdout=subprocess.PIPE
    )
    result = json.loads(process.stdout)
    if result.pop("exit_code"):
        raise RuntimeError(f"{' '.join(command)}:\n{log.read_text()[-2000:]}")
    return Run(output=out.read_text(), **result)


def environment() -> dict[str, str]:
    """That of what is measured: modules come from this checkout, and are compiled once only."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


@contextmanager
def daemon(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in ``directory`` with its ``ingestd.yaml``; it is stopped in the end."""
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(INGEST, cwd=directory, stderr=log, env=environment())
        try:
            yield process
        except BaseException:
            sys.stderr.write((directory / "log").read_text()[-4000:])
            raise
        finally:
            process.terminate()
            process.wait()


@contextmanager
def helper(module: str, *args: object, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """``python -m benchmarks.MODULE ARGS`` beside us, to talk to line by line; ended in the end."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, args)]
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def line(process: subprocess.Popen[str]) -> str:
    """What a helper says next.

    :raises RuntimeError: it has ended.
    """
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        raise RuntimeError("a helper process of the benchmark ended early; see above")
    return said.strip()


def tell(process: subprocess.Popen[str], said: object) -> None:
    """Say something to a helper."""
    assert process.stdin is not None
    print(said, file=process.stdin, flush=True)


def wait_for_rows(
    output: Path, rows: int, seconds: float = DEADLINE_SECONDS, pause: float = 0.01
) -> None:
    """Until a new reader sees so many rows.

    :raises TimeoutError: it took longer than ``seconds``.
    """

    def there() -> bool:
        try:
            with h5py.File(output, "r", swmr=True) as file:
                return len(file["/data"]) >= rows
        except (OSError, KeyError):
            return False  # not there yet

    wait_until(there, f"{output}: {rows} rows", seconds, pause)


def wait_until(
    holds: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS, pause: float = 0.01
) -> None:
    """Until it holds.

    :raises TimeoutError: it took longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: did not come in {seconds:g} s")
        time.sleep(pause)


def resident_mib(pid: int) -> float:
    """The memory that a process has now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
