"""How much memory ``ingestd run --once`` takes at its peak, with files far larger than that.

Three runs, each in a new process: one large ``.npy``, one large ``.csv``, and many small files.
The peak is the kernel's own, of the daemon's process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from benchmarks.processes import INGEST_ONCE, measured
from benchmarks.report import parser, report
from benchmarks.workloads import csv, npy_header, write_header

NPY_BYTES = 4 << 30
CSV_BYTES = 1 << 30
FILES = 100_000
COLUMNS = 64

CONFIG = """\
state: state
memory: {memory}
sources:
  bench: {{drop: drop, output: out.h5, after: delete, duplicates: append}}
"""


@dataclass(frozen=True)
class Peak:
    """One run: what went in, how long it took, and the most memory that was resident."""

    input_bytes: int
    rows: int
    seconds: float
    peak_mib: float


def main() -> None:
    """Run all three, or one of them, and print the numbers."""
    made = parser(__doc__)
    made.add_argument("--only", choices=list(FILLS), help="one of the three; default: all")
    made.add_argument("--scale", type=float, default=1.0, help="size of the input (default: 1)")
    made.add_argument("--memory", default="64MiB", help="the config's memory (default: 64MiB)")
    args = made.parse_args()
    numbers = {}
    for name in [args.only] if args.only else FILLS:
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
            peak = measure(Path(directory), name, args.scale, args.memory)
        numbers[name] = {
            "input_mib": round(peak.input_bytes / 2**20, 1),
            "rows": peak.rows,
            "seconds": round(peak.seconds, 1),
            "peak_mib": round(peak.peak_mib, 1),
        }
    report("benchmarks.memory", {"memory": args.memory, "scale": args.scale, **numbers}, args.json)


def measure(directory: Path, what: str, scale: float, memory: str) -> Peak:
    """Fill a drop directory with ``what`` (``npy``, ``csv``, ``backlog``) and take all of it in.

    :raises RuntimeError: the daemon failed, or rows are missing.
    """
    drop = directory / "drop"
    drop.mkdir()
    (directory / "ingestd.yaml").write_text(CONFIG.format(memory=memory))
    rows = FILLS[what](drop, scale)
    with os.scandir(drop) as entries:
        input_bytes = sum(entry.stat().st_size for entry in entries)
    run = measured(INGEST_ONCE, directory)
    with h5py.File(directory / "out.h5", "r") as file:
        if len(file["/data"]) != rows:
            raise RuntimeError(f"{len(file['/data'])} rows came in, {rows} were dropped")
    return Peak(input_bytes, rows, run.seconds, run.peak_mib)


def _one_npy(drop: Path, scale: float) -> int:
    rows = max(1, int(NPY_BYTES * scale) // (COLUMNS * 8))
    with (drop / "large.npy").open("wb") as file:
        write_header(file, "<f8", (rows, COLUMNS))
        # Sparse: reading it costs as much memory as reading anything else.
        file.truncate(file.tell() + rows * COLUMNS * 8)
    return rows


def _one_csv(drop: Path, scale: float) -> int:
    return csv(drop, scale, total=CSV_BYTES, count=1)


def _backlog(drop: Path, scale: float) -> int:
    files = max(1, int(FILES * scale))
    header = npy_header("<f8", (1, COLUMNS))
    for number in range(files):
        values = np.full((1, COLUMNS), number, "<f8")
        (drop / f"{number:06d}.npy").write_bytes(header + values.tobytes())
    return files


FILLS: dict[str, Callable[[Path, float], int]] = {
    "npy": _one_npy,
    "csv": _one_csv,
    "backlog": _backlog,
}

if __name__ == "__main__":
    main()
