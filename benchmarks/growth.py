"""It does not slow down: what an append, a file, a reader pay when there is much already.

``chunks``: Hdf5Sink with tiny chunks; append, flush, a reader's open and refresh.
``rows``: Hdf5Sink with its own chunks; append.
``ledger``: intend, commit, release, and the questions asked of each new file.
``waves``: a running daemon and tiny files, wave after wave; its resident memory.
``backlog``: a drop directory full of tiny files, and a daemon that starts.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arrivals import stage
from benchmarks.processes import daemon, helper, line, resident_mib, tell, wait_for_rows
from benchmarks.report import parser, report
from benchmarks.stats import Spread, significant
from ingestd.ledger import Ledger
from ingestd.model import DropFile, Entry, Fingerprint, Placement, RowRange, RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5 import Hdf5Sink

DECADES = (10_000, 100_000, 1_000_000)
WAVES = 10
FILES = 100_000
SHAPE = (1, 16)

_FLUSH_EVERY = 1000
_ROWS_AT_ONCE = 100
_BATCH = 500  # files that the ledger takes in one commit
_WINDOW = 5000  # appends, or files, that a point is the mean of
_DEADLINE_SECONDS = 3600.0

CONFIG = """\
state: state
sources:
  bench: {drop: drop, output: out.h5, after: {move: done}}
"""

Point = dict[str, Any]


def main() -> None:
    """Run all of it, or some; print the numbers, and draw them."""
    args = _arguments()
    numbers = {}
    for name in args.only:
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
            numbers[name] = PARTS[name](Path(directory), args.scale)
    report("benchmarks.growth", {"scale": args.scale, **numbers}, args.json)
    if args.plot:
        plot(numbers, args.plot)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(PARTS),
        metavar="NAME[,NAME]",
        help=f"of {', '.join(PARTS)}",
    )
    made.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="10: up to 1e7 chunks, rows and ledger entries, and 1e6 files (default: 1)",
    )
    made.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw it, with matplotlib")
    args = made.parse_args()
    if unknown := set(args.only) - set(PARTS):
        made.error(f"--only: {', '.join(unknown)}: not of {', '.join(PARTS)}")
    return args


# The sink


def chunks(directory: Path, scale: float) -> list[Point]:
    """One row of 32 bytes a chunk."""
    rows = np.zeros((1, 4))
    return list(_grow(directory / "out.h5", rows, 1, _targets(scale, 1.0)))


def rows(directory: Path, scale: float) -> list[Point]:
    """A hundred such rows at once, chunks by themselves; ten times as many."""
    many = np.zeros((_ROWS_AT_ONCE, 4))
    return list(_grow(directory / "out.h5", many, None, _targets(scale, 10.0)))


def _targets(scale: float, times: float) -> list[int]:
    """Each decade: from about 1e4 at scale 1, and one more at scale 10."""
    targets = [int(n * min(1.0, scale) * times) for n in DECADES]
    return targets + ([int(DECADES[-1] * scale * times)] if scale > 1 else [])


def _grow(
    path: Path, block: np.ndarray, chunk_rows: int | None, targets: Sequence[int]
) -> Iterator[Point]:
    sink = Hdf5Sink(path)
    spec = DatasetSpec(RowType(block.dtype, block.shape[1:]), chunk_rows=chunk_rows)
    sink.ensure({"/data": spec}, {})
    with helper("watcher", "refresh", path.name, directory=path.parent) as reader:
        line(reader)
        for target in targets:
            appends = (target - sink.rows("/data")) // len(block)
            window = min(_WINDOW, max(1, appends // 2))
            _append(sink, block, appends - window)
            seconds = _append(sink, block, window)
            yield {
                "rows": target,
                "append_us": significant(seconds / window * 1e6),
                "flush_us": significant(_flush(sink, block)),
                **_reader(sink, block, reader, path),
                "file_bytes": path.stat().st_size,
                "writer_mib": round(resident_mib(os.getpid()), 1),
            }
    sink.close()


def _append(sink: Hdf5Sink, block: np.ndarray, appends: int) -> float:
    started = time.perf_counter()
    for number in range(appends):
        sink.append("/data", block)
        if number % _FLUSH_EVERY == 0:
            sink.flush()
    return time.perf_counter() - started


def _flush(sink: Hdf5Sink, block: np.ndarray) -> float:
    took = []
    for _ in range(20):
        sink.append("/data", block)
        started = time.perf_counter()
        sink.flush()
        took.append(time.perf_counter() - started)
    return Spread.of(took).median * 1e6


def _reader(sink: Hdf5Sink, block: np.ndarray, attached: Any, path: Path) -> Point:
    """A reader that was there from the start refreshes; a new one opens."""
    took = []
    for _ in range(50):
        sink.append("/data", block)
        sink.flush()
        tell(attached, "refresh")
        microseconds, seen = line(attached).split()
        assert int(seen) == sink.rows("/data"), f"{seen} rows seen of {sink.rows('/data')}"
        took.append(float(microseconds))
    opens = []
    for _ in range(3):
        with helper("watcher", "refresh", path.name, directory=path.parent) as new:
            opens.append(float(line(new)))
    return {
        "refresh_us": significant(Spread.of(took).median),
        "open_us": significant(Spread.of(opens).median),
    }


# The ledger


def ledger(directory: Path, scale: float) -> list[Point]:
    """Microseconds a file, the disk's included: each batch is committed durably."""
    book = Ledger(directory / "ledger.sqlite")
    digests = random.Random(1)
    points = []
    known = 0
    for target in _targets(scale, 1.0):
        asked, written, window = 0.0, 0.0, 0
        while known < target:
            entries = _entries(known, min(_BATCH, target - known), digests)
            started = time.perf_counter()
            _ask(book, entries)
            between = time.perf_counter()
            book.intend(entries)
            ids = [entry.file_id for entry in entries]
            book.commit(ids)
            book.release(ids)
            known += len(entries)
            if known > target - _WINDOW:
                asked += between - started
                written += time.perf_counter() - between
                window += len(entries)
        points.append(
            {
                "files": target,
                "ask_us": significant(asked / window * 1e6),
                "write_us": significant(written / window * 1e6),
                "ledger_bytes": (directory / "ledger.sqlite").stat().st_size,
            }
        )
    book.close()
    return points


def _ask(book: Ledger, entries: Sequence[Entry]) -> None:
    """What the flow asks of each file that it has not seen."""
    for entry in entries:
        book.known(entry.file)
        book.took(entry.file, entry.digest)
        book.holds(entry.file.source, entry.digest)


def _entries(first: int, count: int, digests: random.Random) -> list[Entry]:
    return [
        Entry(
            number + 1,
            DropFile("bench", f"{number:08d}.npy", Fingerprint(192, 10**18 + number, number)),
            f"{digests.getrandbits(128):032x}",
            "out.h5",
            (Placement("/data", RowRange(number, number + 1), f"{digests.getrandbits(128):032x}"),),
        )
        for number in range(first, first + count)
    ]


# The daemon


def waves(directory: Path, scale: float) -> list[Point]:
    """Memory, and files a second, after each wave of tiny files."""
    _prepare(directory)
    wave = max(1, int(FILES * scale) // WAVES)
    points = []
    with daemon(directory) as process:
        for number in range(WAVES):
            first, last = number * wave, (number + 1) * wave
            stage(directory / "staged", first, last, _draw())
            started = time.monotonic()
            for path in sorted((directory / "staged").iterdir()):
                path.rename(directory / "drop" / path.name)
            wait_for_rows(directory / "out.h5", last, _DEADLINE_SECONDS, pause=0.05)
            seconds = time.monotonic() - started
            points.append(
                {
                    "files": last,
                    "files_per_second": significant(wave / seconds),
                    "resident_mib": round(resident_mib(process.pid), 1),
                }
            )
    return points


def backlog(directory: Path, scale: float) -> Point:
    """From the start of the process."""
    _prepare(directory)
    files = max(1, int(FILES * scale))
    stage(directory / "drop", 0, files, _draw())
    started = time.monotonic()
    with daemon(directory) as process:
        wait_for_rows(directory / "out.h5", 1, _DEADLINE_SECONDS, pause=0.002)
        first = time.monotonic() - started
        wait_for_rows(directory / "out.h5", files, _DEADLINE_SECONDS, pause=0.05)
        seconds = time.monotonic() - started
        resident = resident_mib(process.pid)
    return {
        "files": files,
        "first_row_seconds": significant(first),
        "files_per_second": significant(files / seconds),
        "resident_mib": round(resident, 1),
    }


def _prepare(directory: Path) -> None:
    (directory / "ingestd.yaml").write_text(CONFIG)
    (directory / "drop").mkdir()


def _draw() -> Callable[[], np.ndarray]:
    values = np.random.default_rng(1)
    return lambda: values.random(SHAPE)


PARTS: dict[str, Callable[[Path, float], Any]] = {
    "chunks": chunks,
    "rows": rows,
    "ledger": ledger,
    "waves": waves,
    "backlog": backlog,
}

# The picture

_PANELS = (
    ("chunks", "rows", ("append_us", "refresh_us", "open_us"), "chunks", "us"),
    ("rows", "rows", ("append_us", "refresh_us", "open_us"), "rows", "us"),
    ("ledger", "files", ("ask_us", "write_us"), "files in the ledger", "us a file"),
    ("waves", "files", ("resident_mib",), "files taken", "MiB resident"),
)


def plot(numbers: dict[str, Any], path: Path) -> None:
    """One panel for each part; flat is good."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [panel for panel in _PANELS if panel[0] in numbers]
    size = (4 * len(panels), 3)
    figure, axes = pyplot.subplots(1, len(panels), figsize=size, squeeze=False)
    for axis, (part, x, lines, xlabel, ylabel) in zip(axes[0], panels, strict=True):
        points = numbers[part]
        for name in lines:
            label = name.rpartition("_")[0]
            axis.plot([p[x] for p in points], [p[name] for p in points], "o-", label=label)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        if part != "waves":
            axis.set_xscale("log")
        if x == "rows":
            axis.set_yscale("log")
        else:
            axis.set_ylim(0, 1.3 * axis.get_ylim()[1])
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
