"""The files that are dropped: seeded, so that every run takes in the same bytes."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import h5py
import hdf5plugin  # noqa: F401 - reads what it compressed
import numpy as np

SEED = 20260101

Maker = Callable[[Path, float], int]
"""Fills a directory, at a scale, and gives the rows in it."""

# Peers are named as in benchmarks.peers. Those left out of a default take minutes: --peers.
LARGE_PEERS = ("blog", "h5py", "pytables", "zarr", "zarr-shards", "tensorstore")
SMALL_PEERS = ("blog", "h5py", "h5py-batch", "pytables")
FILTER_PEERS = ("h5py", "zarr", "tensorstore")

_SLAB_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Feed:
    """One source: how its files are made, and how its dataset is compressed."""

    name: str
    make: Maker
    compression: str = "none"


@dataclass(frozen=True, slots=True)
class Workload:
    """What one comparison takes in. ``small``: its floor is open + read + rename, else a copy."""

    name: str
    feeds: tuple[Feed, ...]
    peers: tuple[str, ...] = LARGE_PEERS
    small: bool = False
    opt_in: bool = False

    def config(self) -> str:
        """That of the daemon; everything else is at its default."""
        lines = ["state: state", "sources:"]
        for feed in self.feeds:
            name = feed.name
            lines += [
                f"  {name}:",
                f"    drop: drop/{name}",
                f"    output: out/{name}.h5",
                f"    after: {{move: done/{name}}}",
                f"    quarantine: failed/{name}",
            ]
            if feed.compression != "none":
                lines.append(f"    datasets: {{/data: {{compression: {feed.compression}}}}}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was made of a workload."""

    rows: dict[str, int]  # of each feed
    files: int
    bytes: int


def make(workload: Workload, directory: Path, scale: float) -> Inputs:
    """Fill ``directory/drop`` with files of an hour ago, and write the config beside it."""
    rows = {}
    for feed in workload.feeds:
        for kind in ("drop", "done"):
            (directory / kind / feed.name).mkdir(parents=True)
        rows[feed.name] = feed.make(directory / "drop" / feed.name, scale)
    (directory / "ingestd.yaml").write_text(workload.config())
    sizes, hour_ago = [], time.time() - 3600
    for path in (directory / "drop").rglob("*.*"):
        os.utime(path, (hour_ago, hour_ago))
        sizes.append(path.stat().st_size)
    return Inputs(rows, len(sizes), sum(sizes))


def restore(workload: Workload, directory: Path) -> None:
    """Put every file that was archived back where it was dropped, and into the page cache."""
    for feed in workload.feeds:
        done, drop = directory / "done" / feed.name, directory / "drop" / feed.name
        for path in sorted(done.iterdir()):
            path.rename(drop / path.name)
    cat = ["find", "drop", "-type", "f", "-exec", "cat", "--", "{}", "+"]
    subprocess.run(cat, cwd=directory, check=True, stdout=subprocess.DEVNULL)


def check(workload: Workload, directory: Path, inputs: Inputs) -> None:
    """Look whether the daemon took in everything, and took it in right: a few files of each feed.

    :raises RuntimeError: it did not.
    """
    for feed in workload.feeds:
        if left := len(list((directory / "drop" / feed.name).iterdir())):
            raise RuntimeError(f"{workload.name}: {left} files of {feed.name} were not taken")
        with h5py.File(directory / "out" / f"{feed.name}.h5", "r", swmr=True) as file:
            data, records = file["/data"], file["/ingestd/data/files"]
            if len(data) != inputs.rows[feed.name]:
                raise RuntimeError(f"{workload.name}: {len(data)} rows, not {inputs.rows}")
            for number in np.linspace(0, len(records) - 1, 5).astype(int):
                record = records[number]
                path = directory / "done" / feed.name / record["name"].decode()
                first, rows = int(record["first_row"]), int(record["rows"])
                for offset, row in _ends(path, rows):
                    if not np.array_equal(data[first + offset], row):
                        raise RuntimeError(f"{workload.name}: row {first + offset} is wrong")


def _ends(path: Path, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """The first row of a file and, where that is cheap, its last."""
    if path.suffix == ".csv":
        with path.open() as file:
            yield 0, np.array(file.readline().split(","), "f8")
        return
    array = np.load(path, mmap_mode="r")
    yield 0, array[0]
    yield rows - 1, array[rows - 1]


# Makers


def write_header(file: BinaryIO, dtype: str, shape: tuple[int, ...]) -> None:
    """The start of a ``.npy``."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The same, for files that all start with it: ``np.save`` is slow on many small ones."""
    header = io.BytesIO()
    write_header(header, dtype, shape)
    return header.getvalue()


def arrays(
    directory: Path, scale: float, *, count: int, rows: int, row_shape: tuple[int, ...]
) -> int:
    """``count`` files of random float32; ``scale`` goes to their rows."""
    rows = max(1, int(rows * scale))
    random = np.random.default_rng(SEED)
    step = max(1, _SLAB_BYTES // (4 * int(np.prod(row_shape))))
    for number in range(count):
        with (directory / f"{number:06d}.npy").open("wb") as file:
            write_header(file, "<f4", (rows, *row_shape))
            for start in range(0, rows, step):
                slab = random.random((min(step, rows - start), *row_shape), "f4")
                file.write(slab.data)
    return count * rows


def frames(directory: Path, scale: float, *, count: int, side: int = 1024) -> int:
    """``count`` detector pictures, one a file: few counts, Poisson."""
    count = max(1, int(count * scale))
    random = np.random.default_rng(SEED)
    pool = [random.poisson(2.0, side * side).astype("<u2") for _ in range(min(count, 16))]
    header = npy_header("<u2", (1, side, side))
    for number in range(count):
        # Drawing each anew would take minutes. Shifted, no two are equal.
        picture = np.roll(pool[number % len(pool)], number * 523)
        (directory / f"{number:06d}.npy").write_bytes(header + picture.tobytes())
    return count


def small(directory: Path, scale: float, *, count: int, dtype: str, shape: tuple[int, ...]) -> int:
    """``count`` files of a few kilobytes or less."""
    count = max(1, int(count * scale))
    random = np.random.default_rng(SEED)
    header = npy_header(dtype, shape)
    for number in range(count):
        values = random.random(shape).astype(dtype)
        (directory / f"{number:06d}.npy").write_bytes(header + values.tobytes())
    return count * shape[0]


def csv(directory: Path, scale: float, *, total: int, count: int = 4, columns: int = 8) -> int:
    """``total`` bytes of numbers with nine decimals, in ``count`` files without a header."""
    values = np.random.default_rng(SEED).random((2000, columns))
    block = "".join(",".join(f"{v:.9f}" for v in row) + "\n" for row in values).encode()
    blocks = max(1, int(total * scale / count) // len(block))
    for number in range(count):
        with (directory / f"{number:06d}.csv").open("wb") as file:
            # So that no two files are equal.
            file.write(",".join([str(number)] * columns).encode() + b"\n")
            for _ in range(blocks):
                file.write(block)
    return count * (blocks * len(values) + 1)


_POISSON = partial(frames, count=2000)
_CUBE = partial(arrays, rows=100, row_shape=(1000, 1000))
_RECORDS = partial(small, dtype="<f8", shape=(64, 8))


def _compressed(name: str, compression: str, *, opt_in: bool = True) -> Workload:
    return Workload(name, (Feed("frames", _POISSON, compression),), FILTER_PEERS, opt_in=opt_in)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("large", (Feed("large", partial(_CUBE, count=4)),)),
        Workload("frames", (Feed("frames", _POISSON),)),
        _compressed("frames-bslz4", "bitshuffle", opt_in=False),
        _compressed("frames-gzip", "gzip"),
        _compressed("frames-zstd", "zstd"),
        _compressed("frames-blosc2", "blosc2"),
        Workload(
            "records", (Feed("records", partial(_RECORDS, count=20_000)),), SMALL_PEERS, small=True
        ),
        Workload(
            "tiny",
            (Feed("tiny", partial(small, count=100_000, dtype="<f4", shape=(1, 16))),),
            SMALL_PEERS,
            small=True,
        ),
        Workload("csv", (Feed("csv", partial(csv, total=1 << 30)),), ("blog",)),
        Workload(
            "npy4g", (Feed("npy4g", partial(arrays, count=1, rows=1 << 20, row_shape=(1024,))),)
        ),
        Workload(
            "mixed",
            (
                Feed("large", partial(_CUBE, count=2)),
                Feed("frames", partial(frames, count=200)),
                Feed("bslz4", partial(frames, count=200, side=512), "bitshuffle"),
                Feed("records", partial(_RECORDS, count=4000)),
                Feed("csv", partial(csv, total=128 << 20)),
            ),
            ("blog", "h5py"),
        ),
        Workload("blog", (Feed("blog", partial(_CUBE, count=20)),), opt_in=True),
    )
}
