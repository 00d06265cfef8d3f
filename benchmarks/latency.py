"""How long from a drop to its rows in a reader's hands: an idle daemon, one file at a time.

The clock starts before the rename of a 1 MiB ``.npy`` into the drop directory and stops when a
polling SWMR reader, in a process of its own, has read the rows into memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.processes import daemon, wait_for_rows
from benchmarks.report import parser, report
from benchmarks.stats import latencies_ms

COLUMNS = 128

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
    made = parser(__doc__)
    made.add_argument("-n", type=int, default=200, help="drops (default: 200)")
    made.add_argument("--bytes", type=int, default=1 << 20, help="of one file (default: 1 MiB)")
    made.add_argument(
        "--poll-ms", type=float, default=1.0, help="the reader's pause; 0: none (default: 1)"
    )
    args = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
        seconds = measure(Path(directory), args.n, args.bytes, args.poll_ms / 1e3)
    report(
        "benchmarks.latency",
        {
            "drops": args.n,
            "file_bytes": args.bytes,
            "reader_poll_ms": args.poll_ms,
            **latencies_ms(seconds),
        },
        args.json,
    )


def measure(directory: Path, drops: int, file_bytes: int, poll_seconds: float) -> list[float]:
    """Seconds of each drop, the first (which makes the output) left out."""
    rows = max(1, file_bytes // (COLUMNS * 8))
    (directory / "ingestd.yaml").write_text(CONFIG)
    (directory / "drop").mkdir()
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


if __name__ == "__main__":
    main()
