"""Eight readers of different kinds on one live file, under load, while its writer is killed twice:
each sees every row once, in order, none wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ENVIRONMENT, Daemon, drop, until
from integration.eight_readers import LAST, READERS

SECONDS = 60.0
FILES_PER_SECOND = 60
CONFIG = """
sources:
  pairs:
    drop: drop
    output: data/out.h5
    datasets: {/pairs/X: {member: X}, /pairs/y: {member: y, compression: gzip}}
    after: delete
"""


def put(root: Path, number: int, values: np.ndarray) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, X=np.repeat(values[:, None], 16, axis=1), y=-values)

    drop(root / f"drop/{number:06}.npz", write)


@pytest.mark.timeout(240)
def test_eight_readers_see_every_row_once_through_two_kills(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(CONFIG)
    program = Path(__file__).with_name("eight_readers.py")
    readers = {}
    for kind in READERS:
        with (
            (tmp_path / f"{kind}.out").open("wb") as out,
            (tmp_path / f"{kind}.err").open("wb") as err,
        ):
            readers[kind] = subprocess.Popen(
                [sys.executable, program, kind],
                cwd=tmp_path,
                env=ENVIRONMENT,
                stdout=out,
                stderr=err,
            )
    try:
        count = _load(tmp_path, np.random.default_rng(1))
        for kind, process in readers.items():
            until(
                lambda process=process: process.poll() is not None,
                f"the reader '{kind}' has seen the last row",
                seconds=60,
            )
    finally:
        for process in readers.values():
            process.kill()

    for kind, process in readers.items():
        assert process.returncode == 0, (kind, (tmp_path / f"{kind}.err").read_text())
        seen = np.fromfile(tmp_path / f"{kind}.out", "<i8")
        assert seen[-1] == LAST
        assert np.array_equal(seen[:-1], np.arange(count)), kind


def _load(root: Path, rng: np.random.Generator) -> int:
    """Drop files for a while; the writer is killed after each third of it. How many rows."""
    count, number, began = 0, 0, time.monotonic()
    for part in (1, 2, 3):
        with Daemon(root) as daemon:
            while time.monotonic() < began + SECONDS * part / 3:
                rows = int(rng.integers(1, 200))
                put(root, number, np.arange(count, count + rows))
                count, number = count + rows, number + 1
                due = began + number / FILES_PER_SECOND
                until(lambda due=due: time.monotonic() >= due, "the next file's time", seconds=5)
            if part < 3:
                daemon.kill()
                continue
            put(root, number, np.array([LAST]))
            daemon.until(lambda: not any((root / "drop").iterdir()), "all files are taken", 60)
            daemon.stop()
    return count
