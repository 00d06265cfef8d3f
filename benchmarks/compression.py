"""Hdf5Sink with a compression against h5py with the same filter in HDF5's pipeline, one thread.

Both write the same frames, one a chunk, with the same filters at the same settings, in turn.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.filters import created_like
from benchmarks.report import parser, report
from benchmarks.stats import Spread
from ingestd.model import RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5 import Hdf5Sink

CODECS = ("gzip", "gzip:1", "lzf", "lz4", "zstd", "bitshuffle", "blosc", "blosc2")


def main() -> None:
    """Run all codecs and print the numbers."""
    made = parser(__doc__)
    made.add_argument("--frames", type=int, default=100, help="of 2 MiB (default: 100)")
    made.add_argument("--rounds", type=int, default=5, help="runs of each (default: 5)")
    made.add_argument("--codecs", default=",".join(CODECS), help="as in the config; default: all")
    args = made.parse_args()
    random = np.random.default_rng(1)
    frames = [
        random.poisson(2.0, (1, 1024, 1024)).astype("<u2") for _ in range(min(16, args.frames))
    ]
    numbers = {}
    for codec in args.codecs.split(","):
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
            numbers[codec] = measure(Path(directory), codec, frames, args.frames, args.rounds)
    report("benchmarks.compression", {"frames": args.frames, **numbers}, args.json)


def measure(
    directory: Path, codec: str, frames: list[np.ndarray], count: int, rounds: int
) -> dict[str, Any]:
    """Seconds of both, their ratio in each round, and the bytes."""
    ours, theirs = directory / "sink.h5", directory / "filter.h5"
    name, _, level = codec.partition(":")
    spec = DatasetSpec(
        RowType(frames[0].dtype, frames[0].shape[1:]),
        compression=name,
        level=int(level) if level else None,
        chunk_rows=1,
    )
    sink: list[tuple[float, float]] = []
    pipeline: list[tuple[float, float]] = []
    for _ in range(rounds):
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        os.sync()
        sink.append(_timed(lambda: _by_sink(ours, spec, frames, count)))
        os.sync()
        pipeline.append(_timed(lambda: _in_filter(theirs, ours, frames, count)))
    _check(ours, frames, count)
    ratio = Spread.of([a[0] / b[0] for a, b in zip(sink, pipeline, strict=True)])
    stored = ours.stat().st_size
    return {
        "sink_x_pipeline": ratio.rounded(),
        "sink_seconds": Spread.of([s for s, _ in sink]).rounded(),
        "pipeline_seconds": Spread.of([s for s, _ in pipeline]).rounded(),
        "sink_cpu_seconds": Spread.of([c for _, c in sink]).rounded(),
        "pipeline_cpu_seconds": Spread.of([c for _, c in pipeline]).rounded(),
        "raw_bytes": count * frames[0].nbytes,
        "sink_bytes": stored,
        "pipeline_bytes": theirs.stat().st_size,
    }


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu


def _by_sink(path: Path, spec: DatasetSpec, frames: list[np.ndarray], count: int) -> None:
    sink = Hdf5Sink(path)
    sink.ensure({"/data": spec}, {})
    for number in range(count):
        sink.append("/data", frames[number % len(frames)])
    sink.flush()
    sink.close()


def _in_filter(path: Path, like: Path, frames: list[np.ndarray], count: int) -> None:
    """With the very filters, settings and chunks of the sink's dataset."""
    with h5py.File(like, "r", swmr=True) as file, h5py.File(path, "w") as target:
        model = file["/data"].id
        shape = (0, *frames[0].shape[1:])
        space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
        made = created_like(file["/data"])
        data = h5py.Dataset(h5py.h5d.create(target.id, b"data", model.get_type(), space, made))
        for number in range(count):
            data.resize(number + 1, axis=0)
            data[number:] = frames[number % len(frames)]


def _check(path: Path, frames: list[np.ndarray], count: int) -> None:
    with h5py.File(path, "r", swmr=True) as file:
        data = file["/data"]
        assert len(data) == count, f"{len(data)} frames, not {count}"
        for number in {0, count // 2, count - 1}:
            assert np.array_equal(data[number], frames[number % len(frames)][0]), number


if __name__ == "__main__":
    main()
