"""Numbered files that are dropped while a reader looks on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import helper, line, tell
from benchmarks.workloads import npy_header


@dataclass(frozen=True, slots=True)
class Seen:
    """For each file: when it was dropped, and when a reader had its rows; monotonic seconds."""

    dropped: np.ndarray
    read: np.ndarray

    @property
    def latencies(self) -> np.ndarray:
        return self.read - self.dropped

    @property
    def rate(self) -> float:
        """Files per second, from the first drop until the last is read."""
        return len(self.read) / float(self.read.max() - self.dropped[0])


def stage(directory: Path, first: int, last: int, draw: Callable[[], np.ndarray]) -> None:
    """Write the files FIRST up to LAST, each with its number as first value."""
    directory.mkdir(exist_ok=True)
    header = npy_header(draw().dtype.str, draw().shape)
    for number in range(first, last):
        rows = draw()
        rows.reshape(-1)[0] = number
        (directory / f"{number:07d}.npy").write_bytes(header + rows.tobytes())


def watch(directory: Path, first: int, last: int, rows: int, rate: float, poll_ms: float) -> Seen:
    """Drop staged files at ``rate`` (0: at once) while a reader polls ``out.h5``."""
    read, dropped = directory / "read.npy", directory / "dropped.npy"
    follow = ("follow", "out.h5", rows, first, last, poll_ms, read)
    drop = ("staged", "drop", first, last, rate, dropped)
    with (
        helper("watcher", *follow, directory=directory) as reader,
        helper("producer", *drop, directory=directory) as producer,
    ):
        line(reader), line(producer)
        tell(producer, "go")
        line(producer), line(reader)
    return Seen(np.load(dropped) / 1e9, np.load(read) / 1e9)
