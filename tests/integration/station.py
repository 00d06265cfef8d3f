"""A daemon at work, as an integration test sees it: its directory, its log, its rows.

Every row tells its file and its place there, so one that is lost, doubled or moved is found.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from helpers import ENVIRONMENT, INGESTD, Daemon, drop, run, until

from ingestd import layout, locks

IS_ROOT = os.geteuid() == 0


class Station(Daemon):
    """``ingestd run`` in ``cwd`` with the config ``text``, up once it is made; see ``Daemon``."""

    def __init__(
        self,
        cwd: Path,
        text: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        started: bool = True,
    ) -> None:
        self.cwd = cwd
        self.log = cwd / "daemon.log"
        if text is not None:
            configure(cwd, text)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*INGESTD, "run", "-c", "x.yaml"],
                cwd=cwd,
                env={**ENVIRONMENT, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if started:
            self.until(lambda: locks.held(cwd / "state/lock"), "the daemon has its lock")

    def until_empty(self, *directories: str, seconds: float = 60) -> None:
        """Wait until nothing is left in these directories below ``cwd``."""
        for directory in directories:
            self.until(lambda d=directory: names(self.cwd / d) == [], f"{directory} empty", seconds)

    def lines(self, *words: str) -> list[str]:
        """The lines of log that hold all of ``words``."""
        text = self.log.read_text(errors="backslashreplace")
        return [line for line in text.splitlines() if all(word in line for word in words)]

    def ended(self, seconds: float = 30) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(seconds)


def configure(cwd: Path, text: str) -> None:
    """Write ``text`` as the config of the daemon in ``cwd``."""
    cwd.mkdir(parents=True, exist_ok=True)
    (cwd / "x.yaml").write_text(text)


def once(cwd: Path, text: str | None = None, code: int | tuple[int, ...] = 0) -> str:
    """Let a daemon take what is there, and end; its log."""
    if text is not None:
        configure(cwd, text)
    return run("run", "--once", "-c", "x.yaml", cwd=cwd, code=code).stderr


def names(directory: Path) -> list[str]:
    """The names in ``directory``, sorted; of one that is not there, none."""
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def rows_of(number: int, rows: int = 2) -> np.ndarray:
    """The rows of file ``number``: int64 of shape (rows, 2), each ``[number, its place]``."""
    return np.column_stack((np.full(rows, number, "<i8"), np.arange(rows, dtype="<i8")))


def save(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` in place, whatever ``path`` ends with."""
    with path.open("wb") as file:
        np.save(file, array)


def put(path: Path, number: int, rows: int = 2) -> None:
    """Let a ``.npy`` with ``rows_of(number, rows)`` appear at ``path`` at once."""
    drop(path, lambda hidden: save(hidden, rows_of(number, rows)))


def taken(output: Path, dataset: str = "/data") -> list[int]:
    """The number of each file in ``output``, in order; fails unless each is there whole.

    Reads as any reader does: in SWMR mode, what is committed by the records.
    """
    if not output.exists():
        return []
    with h5py.File(output, "r", swmr=True) as file:
        records = file[layout.records_path(dataset)][:]
        rows = file[dataset][: layout.committed_rows(records[-1] if len(records) else None)]
    found, at = [], 0
    for record in records:
        mine = rows[at : at + int(record["rows"])]
        assert record["first_row"] == at, f"{dataset}: a gap before row {record['first_row']}"
        number = int(mine[0, 0])
        assert np.array_equal(mine, rows_of(number, len(mine))), f"{dataset}: {number} is not whole"
        found.append(number)
        at += len(mine)
    return found


def recorded_names(output: Path, dataset: str = "/data") -> list[bytes]:
    """The names of the files in ``output``, in order."""
    with h5py.File(output, "r", swmr=True) as file:
        return [bytes(record["name"]) for record in file[layout.records_path(dataset)][:]]


def until_ctime_moves(beside: Path) -> None:
    """Wait until a file made now has a later stamp than the last one: stamps come in ticks."""
    probe = beside / "probe"

    def stamp() -> int:
        probe.touch()
        return probe.stat().st_ctime_ns

    before = stamp()
    until(lambda: stamp() > before, "the file system's clock moved on", pause=0.001)
    probe.unlink()
