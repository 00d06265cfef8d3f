"""Readers of different kinds, each a process of its own: ``python eight_readers.py KIND``.

Each writes the first value of each row that it saw to its standard output, int64, as it sees it,
and ends when it has seen the last. What they saw is judged by the test. In ``/pairs/X`` row i is
full of i, in ``/pairs/y`` it is -i.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

PATH, DATASET = Path("data/out.h5"), "/pairs/X"


def plain() -> Iterator[np.ndarray]:
    """h5py alone, on its first handle: final rows are those that the last record names."""
    import h5py

    while True:
        try:
            file = h5py.File(PATH, "r", swmr=True)
            rows, records = file[DATASET], file[f"/ingestd{DATASET}/files"]
            break
        except (OSError, KeyError):
            time.sleep(0.05)
    seen = 0
    while True:
        records.refresh()
        rows.refresh()
        last = records[-1] if len(records) else None
        end = int(last["first_row"] + last["rows"]) if last is not None else 0
        if end > seen:
            yield rows[seen:end]
            seen = end
        time.sleep(0.01)


def tail() -> Iterator[np.ndarray]:
    import ingestd

    with ingestd.open_tail(PATH, DATASET) as opened:
        for block in opened:
            yield block.rows


def pieces() -> Iterator[np.ndarray]:
    import ingestd

    with ingestd.open_tail(PATH, DATASET, whole_files=False, max_rows=7) as opened:
        for block in opened:
            yield block.rows


def resumed() -> Iterator[np.ndarray]:
    """Again and again from the position where it stopped, as if in another process."""
    import pickle

    import ingestd

    token = pickle.dumps(0)
    while True:
        with ingestd.open_tail(PATH, DATASET, start=pickle.loads(token), timeout=0.5) as opened:
            for block in opened:
                yield block.rows
                token = pickle.dumps(block.position)
                if block.stop % 3 == 0:
                    break


def lockstep() -> Iterator[np.ndarray]:
    import ingestd

    with ingestd.open_tail(PATH, ["/pairs/X", "/pairs/y"]) as opened:
        for block in opened:
            assert np.array_equal(block.rows["/pairs/X"][:, 0], -block.rows["/pairs/y"])
            yield block.rows["/pairs/X"]


def waiting() -> Iterator[np.ndarray]:
    """``async for``, one block after the other."""
    import ingestd

    opened = ingestd.open_tail(PATH, DATASET)

    async def following() -> np.ndarray:
        return (await anext(blocks)).rows

    blocks = aiter(opened)
    with asyncio.Runner() as runner:
        while True:
            yield runner.run(following())


def view() -> Iterator[np.ndarray]:
    import ingestd

    while not PATH.exists():
        time.sleep(0.05)
    with ingestd.open(PATH) as opened:
        while DATASET not in opened:
            time.sleep(0.05)
        seen, data = 0, opened[DATASET]
        while True:
            end = len(data)
            if end > seen:
                yield data[seen:end]
                seen = end
            time.sleep(0.01)


def shell() -> Iterator[np.ndarray]:
    """``ingestd tail`` into a pipe."""
    command = [sys.executable, "-m", "ingestd", "tail", f"{PATH}:{DATASET}", "--from", "start"]
    with subprocess.Popen([*command, "--format", "npy"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while True:
                yield np.lib.format.read_array(SimpleNamespace(read=process.stdout.read))
        finally:
            process.terminate()


READERS: dict[str, Callable[[], Iterator[np.ndarray]]] = {
    f.__name__: f for f in (plain, tail, pieces, resumed, lockstep, waiting, view, shell)
}

LAST = -(2**60)
"""The value of the row that ends the run."""


def main() -> None:
    """Tell every row, until the last."""
    out = sys.stdout.buffer
    for rows in READERS[sys.argv[1]]():
        wrong = (rows != rows[:, :1]).any(axis=1)
        assert not wrong.any(), f"torn rows: {rows[wrong][:3]}"
        out.write(np.ascontiguousarray(rows[:, 0], "<i8").tobytes())
        out.flush()
        if rows[-1, 0] == LAST:
            return


if __name__ == "__main__":
    main()
