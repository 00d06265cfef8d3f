"""A reader in a process of its own, as a user would write it: plain h5py and SWMR.

``follow OUTPUT ROWS FIRST LAST POLL_MS RESULT`` polls for the files FIRST up to LAST, each of ROWS
rows whose first value is the file's number, and saves when it had read each. ``refresh OUTPUT``
answers each line with the microseconds that a refresh took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - reads what it compressed
import numpy as np

_FILES_AT_ONCE = 256


def main() -> None:
    """``follow`` or ``refresh``."""
    what, output, *rest = sys.argv[1:]
    if what == "refresh":
        refresh(output)
    else:
        rows, first, last = map(int, rest[:3])
        follow(output, rows, first, last, float(rest[3]) / 1e3, Path(rest[4]))


def follow(
    output: str, rows: int, first: int, last: int, poll_seconds: float, result: Path
) -> None:
    """Until the last file is read."""
    print("ready", flush=True)
    data = attach(output)
    seen = np.zeros(last - first, np.int64)
    end = first * rows
    while end < last * rows:
        data.refresh()
        stop = min(len(data) // rows * rows, end + _FILES_AT_ONCE * rows)
        if stop <= end:
            time.sleep(poll_seconds)
            continue
        block = data[end:stop]
        at = time.monotonic_ns()
        numbers = block.reshape((stop - end) // rows, -1)[:, 0].astype(int)
        seen[numbers - first] = at
        end = stop
    np.save(result, seen)
    print("done", flush=True)


def refresh(output: str) -> None:
    """One refresh for each line; the first answer is what it took to open."""
    started = time.perf_counter()
    data = attach(output)
    print((time.perf_counter() - started) * 1e6, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        data.refresh()
        rows = data.shape[0]
        took = time.perf_counter() - started
        print(took * 1e6, rows, flush=True)


def attach(output: str) -> h5py.Dataset:
    """Open the dataset, as soon as it is there."""
    while True:
        try:
            return h5py.File(output, "r", swmr=True)["/data"]
        except (OSError, KeyError):
            time.sleep(0.001)


if __name__ == "__main__":
    main()
