"""How long from a drop to its rows in a reader's hands: an idle daemon, one file at a time.

The clock starts before the rename of a 1 MiB ``.npy`` into the drop directory and stops when a
polling SWMR reader, in a process of its own, has read the rows into memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from benchmarks.report import report

COLUMNS = 128
DEADLINE_SECONDS = 30.0

CONFIG = """\
state: state
sources:
  bench: {drop: drop, output: out.h5, after: {move: done}}
"""

READER = """
import sys, time
import h5py

path, rows, poll_seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
dataset = h5py.File(path, "r", swmr=True)["/data"]
seen = len(dataset)
print("attached", flush=True)
while True:
    dataset.refresh()
    if len(dataset) >= seen + rows:
        block = dataset[seen : seen + rows]
        at = time.monotonic_ns()
        seen += rows
        print(at, block[0, 0], flush=True)
    elif poll_seconds:
        time.sleep(poll_seconds)
"""


def main() -> None:
    """Run it and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-n", type=int, default=200, help="drops (default: 200)")
    parser.add_argument("--bytes", type=int, default=1 << 20, help="of one file (default: 1 MiB)")
    parser.add_argument(
        "--poll-ms", type=float, default=1.0, help="the reader's pause; 0: none (default: 1)"
    )
    parser.add_argument("--dir", type=Path, help="where to work (default: the temporary directory)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
        seconds = measure(Path(directory), args.n, args.bytes, args.poll_ms / 1e3)
    ms = np.array(seconds) * 1e3
    report(
        "benchmarks.latency",
        {
            "drops": args.n,
            "file_bytes": args.bytes,
            "reader_poll_ms": args.poll_ms,
            "median_ms": round(float(np.median(ms)), 2),
            "p99_ms": round(float(np.percentile(ms, 99)), 2),
            "max_ms": round(float(ms.max()), 2),
        },
    )


def measure(directory: Path, drops: int, file_bytes: int, poll_seconds: float) -> list[float]:
    """Seconds of each drop, the first (which makes the output) left out."""
    rows = max(1, file_bytes // (COLUMNS * 8))
    (directory / "ingestd.yaml").write_text(CONFIG)
    with daemon(directory):
        drop(directory, 0, rows)
        wait_for_rows(directory / "out.h5", rows)
        command = [sys.executable, "-c", READER, "out.h5", str(rows), str(poll_seconds)]
        reader = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True)
        assert reader.stdout is not None
        try:
            assert reader.stdout.readline() == "attached\n"
            return [_one(directory, number, rows, reader.stdout) for number in range(1, drops + 1)]
        finally:
            reader.kill()
            reader.wait()


def _one(directory: Path, number: int, rows: int, reader: Iterator[str]) -> float:
    # Idle means idle: the last file's fsync and removal are over.
    while any((directory / "drop").glob("*.npy")):
        time.sleep(0.002)
    time.sleep(0.02)
    started = drop(directory, number, rows)
    at, first = next(reader).split()
    assert float(first) == number, f"read {first}, dropped {number}"
    return (int(at) - started) / 1e9


def drop(directory: Path, number: int, rows: int) -> int:
    """Write a file beside the drop directory, rename it in; gives the time just before that."""
    staged = directory / f"{number}.npy"
    np.save(staged, np.full((rows, COLUMNS), number, "f8"))
    started = time.monotonic_ns()
    staged.rename(directory / "drop" / staged.name)
    return started


@contextmanager
def daemon(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in ``directory`` that takes files, and is stopped in the end."""
    (directory / "drop").mkdir()
    with (directory / "log").open("wb") as log:
        command = [sys.executable, "-m", "ingestd", "run", "-c", "ingestd.yaml"]
        process = subprocess.Popen(command, cwd=directory, stderr=log, env=_environment())
        try:
            yield process
        except BaseException:
            sys.stderr.write((directory / "log").read_text())
            raise
        finally:
            process.terminate()
            process.wait()


def wait_for_rows(output: Path, rows: int) -> None:
    """Until a new reader sees so many rows."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            with h5py.File(output, "r", swmr=True) as file:
                if len(file["/data"]) >= rows:
                    return
        except (OSError, KeyError):
            pass  # not there yet
        time.sleep(0.01)
    raise TimeoutError(f"{output}: {rows} rows did not come in {DEADLINE_SECONDS:g} s")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


if __name__ == "__main__":
    main()
