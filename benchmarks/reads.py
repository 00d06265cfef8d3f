"""Reading what ingestd wrote, chunks by themselves, against the best of several layouts by hand.

Three ways to read: the first ten rows, one column (the same value of each row), and rows at
random. Warm cache; the file is opened anew each time, outside the clock. Every way has another
best layout: nobody has them all. A contiguous dataset cannot grow; it is shown, but no rival.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.processes import INGEST_ONCE, measured
from benchmarks.report import parser, report
from benchmarks.stats import Spread, digits, significant
from benchmarks.workloads import Feed, Workload, arrays, make, small

OURS, RANDOM_ROWS, GUESS, CONTIGUOUS = "ingestd", 20, "h5py's guess", "contiguous"
_SLAB_BYTES = 64 << 20

Layouts = dict[str, tuple[int, ...] | bool | None]
"""Chunks by name. True: as h5py guesses; None: none at all, which cannot grow."""

PLAIN: Layouts = {GUESS: True, CONTIGUOUS: None}
CUBE: Layouts = {
    "1 row": (1, 1000, 1000),
    "bands of a row": (1, 100, 1000),
    "10 rows, tiles of 100": (10, 100, 100),
    "100 rows, tiles of 32": (100, 32, 32),
    **PLAIN,
}
RECORDS: Layouts = {
    "1 MiB of rows": (16384, 8),
    "64 KiB of rows": (1024, 8),
    "columns": (65536, 1),
    **PLAIN,
}


def main() -> None:
    """Rows of 4 MB, and rows of 64 bytes."""
    made = parser(__doc__)
    made.add_argument("--scale", type=float, default=1.0, help="of the rows (default: 1)")
    made.add_argument("--rounds", type=int, default=5, help="reads of each kind (default: 5)")
    args = made.parse_args()
    numbers = {}
    console = Console() if Console().is_terminal else Console(width=132)
    for workload, layouts in (
        (Workload("rows of 4 MB", (Feed("cube", _cube),)), CUBE),
        (Workload("rows of 64 bytes", (Feed("records", _records),)), RECORDS),
    ):
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
            found = measure(Path(directory), workload, layouts, args.scale, args.rounds)
        console.print(_table(workload.name, found))
        numbers[workload.name] = found
    report("benchmarks.reads", {"scale": args.scale, **numbers}, args.json)


def _cube(directory: Path, scale: float) -> int:
    return arrays(directory, scale, count=4, rows=50, row_shape=(1000, 1000))


def _records(directory: Path, scale: float) -> int:
    return small(directory, scale, count=20_000, dtype="<f8", shape=(64, 8))


def measure(
    directory: Path, workload: Workload, layouts: Layouts, scale: float, rounds: int
) -> dict[str, Any]:
    """Milliseconds by layout and way to read, and ours over the best by hand."""
    make(workload, directory, scale)
    measured(INGEST_ONCE, directory)
    ours = directory / "out" / f"{workload.feeds[0].name}.h5"
    shutil.rmtree(directory / "done")
    files = {OURS: ours}
    for name, chunks in layouts.items():
        files[name] = directory / f"{len(files)}.h5"
        _rewrite(ours, files[name], chunks)
    seconds: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name, path in files.items():
            for way, read in WAYS.items():
                seconds.setdefault(way, {}).setdefault(name, []).append(_timed(path, read))
    return {
        way: {
            "ms": {name: significant(Spread.of(s).median * 1e3) for name, s in by_name.items()},
            "best": (best := _best(by_name)),
            # Of each round, as elsewhere.
            "x_best": Spread.of(
                [a / b for a, b in zip(by_name[OURS], by_name[best], strict=True)]
            ).rounded(),
        }
        for way, by_name in seconds.items()
    }


def _best(by_name: dict[str, list[float]]) -> str:
    rivals = [name for name in by_name if name not in (OURS, CONTIGUOUS)]
    return min(rivals, key=lambda name: Spread.of(by_name[name]).median)


def _rewrite(source: Path, target: Path, chunks: tuple[int, ...] | bool | None) -> None:
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        rows = old["/data"]
        grows = {} if chunks is None else {"maxshape": (None, *rows.shape[1:]), "chunks": chunks}
        copy = new.create_dataset("data", rows.shape, rows.dtype, **grows)
        step = max(1, _SLAB_BYTES // (rows.nbytes // len(rows)))
        for start in range(0, len(rows), step):
            copy[start : start + step] = rows[start : start + step]


def _timed(path: Path, read: Callable[[h5py.Dataset], None]) -> float:
    with h5py.File(path, "r") as file:
        data = file["/data"]
        started = time.perf_counter()
        read(data)
        return time.perf_counter() - started


def _first_ten(data: h5py.Dataset) -> None:
    data[0:10]


def _column(data: h5py.Dataset) -> None:
    data[(slice(None), *(n // 2 for n in data.shape[1:]))]


def _at_random(data: h5py.Dataset) -> None:
    for row in np.random.default_rng(1).integers(len(data), size=RANDOM_ROWS):
        data[row]


WAYS: dict[str, Callable[[h5py.Dataset], None]] = {
    "[0:10]": _first_ten,
    "one column": _column,
    f"{RANDOM_ROWS} rows at random": _at_random,
}


def _table(title: str, found: dict[str, Any]) -> Table:
    table = Table(title=f"{title}; median milliseconds", title_justify="left")
    names = list(next(iter(found.values()))["ms"])
    for heading in ("", *names, "ingestd x best"):
        table.add_column(heading, justify="right" if heading else "left")
    for way, result in found.items():
        ms = [digits(result["ms"][name]) for name in names]
        table.add_row(way, *ms, digits(result["x_best"]["median"]))
    return table


if __name__ == "__main__":
    main()
