"""What readers get: rows that come, rows that are there, and rows here and there.

``wake``: from the writer's flush of a file's record to the rows in the hands of ``open_tail``, in
another process that was waiting. ``throughput``: ``open_tail`` over a file that is there, against
plain h5py slicing of it, in turns. ``idle``: the CPU that a waiting tail takes. ``random``: [0:10]
by ``ingestd.open`` against h5py on a file with chunks as it guesses them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

import ingestd
from benchmarks.processes import helper, line, tell
from benchmarks.report import parser, report
from benchmarks.stats import Spread, latencies_ms, significant
from ingestd import layout

LIBVER = ("v110", "v114")
_CACHE_BYTES = 1 << 20  # as readers have it


def main() -> None:
    """Run all parts, or some; print the numbers."""
    if sys.argv[1:2] == ["--reader"]:
        reader(Path(sys.argv[2]))
        return
    made = parser(__doc__)
    made.add_argument("-n", type=int, default=500, help="files that wake (default: 500)")
    made.add_argument("--mib", type=int, default=400, help="of rows to read (default: 400)")
    made.add_argument("--rounds", type=int, default=5, help="readings of each kind (default: 5)")
    made.add_argument("--seconds", type=float, default=20.0, help="to be idle (default: 20)")
    args = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as made_directory:
        directory = Path(made_directory)
        numbers = {
            "wake": wake(directory, args.n),
            "idle": idle(directory, args.seconds),
            "large_rows": throughput(directory, "large", (1000, 1000), 50, args.mib, args.rounds),
            "small_rows": throughput(directory, "small", (8,), 64, args.mib // 4, args.rounds),
            "random": at_random(directory, args.rounds),
        }
    report("benchmarks.tail", numbers, args.json)


class Output:
    """An output that grows as a daemon's does: rows, flush, record, flush."""

    def __init__(self, path: Path, row_shape: tuple[int, ...], chunk_rows: int) -> None:
        with h5py.File(path, "w", libver=LIBVER) as file:
            file.create_dataset(
                "data", (0, *row_shape), "f4", maxshape=(None, *row_shape),
                chunks=(chunk_rows, *row_shape),
            )  # fmt: skip
            file.create_dataset(
                layout.records_path("/data"), (0,), layout.RECORD, maxshape=(None,),
                chunks=(layout.RECORDS_PER_CHUNK,),
            )  # fmt: skip
        self.file = h5py.File(path, "r+", libver=LIBVER)
        self.rows, self.records = self.file["data"], self.file[layout.records_path("/data")]
        self.file.swmr_mode = True

    def add(self, rows: np.ndarray) -> int:
        """One file's rows; gives the time just before the flush of its record."""
        first, index = len(self.rows), len(self.records)
        self.rows.resize(first + len(rows), axis=0)
        self.rows[first:] = rows
        self.rows.flush()
        record = np.zeros((), layout.RECORD)
        record["first_row"], record["rows"], record["file_id"] = first, len(rows), index + 1
        record["name"] = f"{index}.npy".encode()
        record["digest"] = xxhash.xxh3_128_hexdigest(rows[:1].tobytes()).encode()
        record["committed_ns"] = time.time_ns()
        self.records.resize(index + 1, axis=0)
        self.records[index] = record
        started = time.monotonic_ns()
        self.records.flush()
        return started


def wake(directory: Path, files: int) -> dict[str, Any]:
    """Latencies, of files of 1 MiB, one at a time."""
    path = directory / "wake.h5"
    output = Output(path, (128, 128), 16)
    rows = np.ones((16, 128, 128), "f4")
    seconds = []
    with helper("tail", "--reader", path, directory=directory) as process:
        assert line(process) == "waiting"
        for _ in range(files):
            time.sleep(0.02)
            started = output.add(rows)
            seconds.append((int(line(process)) - started) / 1e9)
        tell(process, "done")
    output.file.close()
    return {"files": files, **latencies_ms(seconds)}


def reader(path: Path) -> None:
    """The other process: says when it has got a block."""
    with ingestd.open_tail(path) as tail:
        print("waiting", flush=True)
        for _ in tail:
            print(time.monotonic_ns(), flush=True)


def idle(directory: Path, seconds: float) -> dict[str, float]:
    """CPU of a tail that waits, in percent of a core."""
    path = directory / "idle.h5"
    output = Output(path, (8,), 1024)
    output.add(np.ones((64, 8), "f4"))
    output.file.close()
    with ingestd.open_tail(path, stop=lambda: False, timeout=seconds) as tail:
        next(tail)
        before, started = time.process_time(), time.monotonic()
        assert next(tail, None) is None
        used = (time.process_time() - before) / (time.monotonic() - started)
    return {"seconds": seconds, "percent_of_a_core": significant(used * 100)}


def throughput(
    directory: Path, name: str, row_shape: tuple[int, ...], file_rows: int, mib: int, rounds: int
) -> dict[str, Any]:
    """Rows a second by ``open_tail``, and its rate over that of h5py slicing by as many bytes."""
    path = directory / f"{name}.h5"
    row_bytes = 4 * int(np.prod(row_shape))
    chunk_rows = max(1, (1 << 20) // row_bytes)
    output = Output(path, row_shape, chunk_rows)
    rows = np.random.default_rng(1).random((file_rows, *row_shape), "f4")
    for _ in range(max(1, (mib << 20) // rows.nbytes)):
        output.add(rows)
    count = len(output.rows)
    output.file.close()
    step = max(1, (4 << 20) // row_bytes)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for way, blocks in (
            ("h5py", lambda: _slices(path, step)),
            ("h5py_small_cache", lambda: _slices(path, step, rdcc_nbytes=_CACHE_BYTES)),
            ("tail", lambda: _blocks(path, True)),
            ("pieces", lambda: _blocks(path, False)),
        ):
            found.setdefault(way, []).append(_timed(blocks, count))
    return {
        "rows": count,
        "row_bytes": row_bytes,
        **{
            f"{way}_rows_per_s": significant(count / Spread.of(s).median)
            for way, s in found.items()
        },
        **{
            f"{way}_over_{plain}": Spread.of(
                [theirs / ours for theirs, ours in zip(found[plain], found[way], strict=True)]
            ).rounded()
            for way in ("tail", "pieces")
            for plain in ("h5py", "h5py_small_cache")
        },
    }


def _timed(blocks: Callable[[], Iterator[np.ndarray]], count: int) -> float:
    started = time.perf_counter()
    assert sum(map(len, blocks())) == count
    return time.perf_counter() - started


def _slices(path: Path, step: int, **how: Any) -> Iterator[np.ndarray]:
    with h5py.File(path, "r", **how) as file:
        data = file["data"]
        for start in range(0, len(data), step):
            rows = data[start : start + step]  # held until there is more, as by any reader
            yield rows


def _blocks(path: Path, whole_files: bool) -> Iterator[np.ndarray]:
    with ingestd.open_tail(path, whole_files=whole_files, timeout=0) as tail:
        for block in tail:
            yield block.rows


def at_random(directory: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds of [0:10] on rows of 4 MB; each opens anew, outside of the clock."""
    ours, guessed = directory / "large.h5", directory / "guessed.h5"
    with h5py.File(ours, "r") as file, h5py.File(guessed, "w") as new:
        rows = file["data"]
        copy = new.create_dataset("data", rows.shape, "f4", maxshape=(None, *rows.shape[1:]))
        for start in range(0, len(rows), 10):
            copy[start : start + 10] = rows[start : start + 10]
    seconds: dict[str, list[float]] = {"view": [], "h5py": []}
    for _ in range(rounds * 4):
        with ingestd.open(ours) as view:
            data = view["/data"]
            len(data)
            seconds["view"].append(_read(data))
        with h5py.File(guessed, "r") as file:
            seconds["h5py"].append(_read(file["data"]))
    return {
        "view_ms": significant(Spread.of(seconds["view"]).median * 1e3),
        "h5py_guessed_chunks_ms": significant(Spread.of(seconds["h5py"]).median * 1e3),
    }


def _read(data: Any) -> float:
    started = time.perf_counter()
    data[0:10]
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
