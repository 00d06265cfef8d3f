"""How much memory ``ingestd run --once`` takes at its peak, with files far larger than that.

Three runs, each in a new process: one large ``.npy``, one large ``.csv``, and many small files.
The peak is the kernel's own (``VmHWM``), of the daemon's process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from benchmarks.report import report

NPY_BYTES = 4 << 30
CSV_BYTES = 1 << 30
FILES = 100_000
COLUMNS = 64
CSV_COLUMNS = 8

CONFIG = """\
state: state
memory: {memory}
sources:
  bench: {{drop: drop, output: out.h5, after: delete, duplicates: append}}
"""

# Read from inside: ru_maxrss of a child also counts what its parent was before the exec.
DAEMON = """
import sys
from pathlib import Path
from ingestd.cli import main

try:
    main()
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    Path("peak").write_text(peak)
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=list(FILLS), help="one of the three; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the input (default: 1)")
    parser.add_argument("--memory", default="64MiB", help="the config's memory (default: 64MiB)")
    parser.add_argument("--dir", type=Path, help="where to work (default: the temporary directory)")
    args = parser.parse_args()
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
    report("benchmarks.memory", {"memory": args.memory, "scale": args.scale, **numbers})


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
    command = [sys.executable, "-c", DAEMON, "run", "--once", "-c", "ingestd.yaml"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    started = time.monotonic()
    with (directory / "log").open("wb") as log:
        process = subprocess.run(command, cwd=directory, stderr=log, env=environment, check=False)
    seconds = time.monotonic() - started
    if process.returncode:
        raise RuntimeError((directory / "log").read_text()[-2000:])
    peak_kib = int((directory / "peak").read_text())
    with h5py.File(directory / "out.h5", "r") as file:
        if len(file["/data"]) != rows:
            raise RuntimeError(f"{len(file['/data'])} rows came in, {rows} were dropped")
    return Peak(input_bytes, rows, seconds, peak_kib / 1024)


def _one_npy(drop: Path, scale: float) -> int:
    rows = max(1, int(NPY_BYTES * scale) // (COLUMNS * 8))
    with (drop / "large.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (rows, COLUMNS)}
        np.lib.format.write_array_header_1_0(file, header)
        # Sparse: reading it costs as much memory as reading anything else.
        file.truncate(file.tell() + rows * COLUMNS * 8)
    return rows


def _one_csv(drop: Path, scale: float) -> int:
    values = np.random.default_rng(1).random((2000, CSV_COLUMNS))
    block = "".join(",".join(f"{v:.9f}" for v in row) + "\n" for row in values).encode()
    blocks = max(1, int(CSV_BYTES * scale) // len(block))
    with (drop / "large.csv").open("wb") as file:
        for _ in range(blocks):
            file.write(block)
    return blocks * len(values)


def _backlog(drop: Path, scale: float) -> int:
    files = max(1, int(FILES * scale))
    for number in range(files):
        np.save(drop / f"{number:06d}.npy", np.full((1, COLUMNS), number, "f8"))
    return files


FILLS: dict[str, Callable[[Path, float], int]] = {
    "npy": _one_npy,
    "csv": _one_csv,
    "backlog": _backlog,
}

if __name__ == "__main__":
    main()
