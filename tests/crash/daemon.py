"""A small world for the daemon to live, and to be killed, in; and what must be true in the end.

Every value tells its file, row and column, so that a row which is lost, doubled, moved or mixed
is found by looking at the output alone.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from helpers import drop, run

from ingestd import layout, tail

KILLER = Path(__file__).with_name("killer.py")

CONFIG = """
state: state
commit: {every: 1ms}
memory: 8MiB
sources:
  pairs:
    drop: drop/pairs
    output: data/out.h5
    datasets:
      /pairs/X: {member: X}
      /pairs/y: {member: y}
  lone:
    drop: drop/lone
    output: data/out.h5
    datasets:
      /lone: {keys: true}
"""


def values(number: int, rows: int) -> np.ndarray:
    """The rows of file ``number``: int64 of shape (rows, 4), no two of them alike."""
    return (number << 32) + np.arange(rows * 4, dtype="<i8").reshape(rows, 4)


def number_of(name: str) -> int:
    """The number in a file's name."""
    return int(Path(name).stem[1:])


def expected_rows(dataset: str, name: str, rows: int) -> np.ndarray:
    """What the file called ``name`` brings to ``dataset``."""
    whole = values(number_of(name), rows)
    return whole[:, 0] if dataset.endswith("/y") else whole


@dataclass
class World:
    """A directory with a config, and what was dropped there so far, by source."""

    root: Path
    config: str = CONFIG
    good: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    again: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    bad: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    numbers: int = 0

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "x.yaml").write_text(self.config)

    @property
    def output(self) -> Path:
        return self.root / "data/out.h5"

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def drop_pair(self, rows: int = 5) -> None:
        """Rows for two datasets, in lockstep."""
        number = self.next_number()
        name, whole = f"p{number:05}.npz", values(number, rows)
        self._drop("pairs", name, lambda path: _savez(path, X=whole, y=whole[:, 0]))
        self.good["pairs"].append((name, rows))

    def drop_lone(self, rows: int = 3, source: str = "lone") -> None:
        """Rows for one dataset."""
        number = self.next_number()
        name = f"l{number:05}.npy"
        self._drop(source, name, lambda path: _save(path, values(number, rows)))
        self.good[source].append((name, rows))

    def drop_again(self, source: str = "lone") -> None:
        """The content of the newest good file of ``source`` (one array), under another name."""
        like, rows = self.good[source][-1]
        name = f"z{self.next_number():05}.npy"
        self._drop(source, name, lambda path: _save(path, values(number_of(like), rows)))
        self.again[source].append(name)

    def drop_bad(self, source: str = "lone") -> None:
        """A file whose rows are of another shape: it is bad at first sight."""
        name = f"b{self.next_number():05}.npy"
        self._drop(source, name, lambda path: _save(path, np.zeros((2, 7))))
        self.bad[source].append(name)

    def drop_torn(self, source: str = "lone") -> None:
        """A file that is cut short: it is bad once it has been quiet for a while."""
        name = f"t{self.next_number():05}.npy"
        self._drop(source, name, lambda path: path.write_bytes(b"\x93NUMPY\x01\x00torn"))
        self.bad[source].append(name)

    def drop_some(self) -> None:
        """Good ones of both sources, a bad one among them, and one that comes again."""
        self.drop_pair()
        self.drop_lone()
        self.drop_bad()
        self.drop_pair(rows=1)
        self.drop_lone(rows=20_000)
        self.drop_pair(rows=40_000)
        self.drop_again()
        self.drop_lone(rows=2)

    def _drop(self, source: str, name: str, write: Callable[[Path], object]) -> None:
        drop(self.root / "drop" / source / name, write)

    def run_once(self) -> str:
        """Let the daemon take what is there; its log."""
        return run("run", "--once", "-c", "x.yaml", cwd=self.root, code=(0, 1)).stderr

    def run_killed(self, *steps: str) -> None:
        """Let the daemon take what is there, until it is killed at one of ``steps``."""
        command = (sys.executable, KILLER, *(f"--at={step}" for step in steps), "--")
        run("run", "--once", "-c", "x.yaml", cwd=self.root, code=-9, command=command)

    def run_with_deadly_hands(self) -> None:
        """Let the daemon take what is there, while each of its other processes dies at work."""
        program = (
            "import sys; from ingestd.pipeline import hands; ask = hands.Hands._ask\n"
            "def deadly(self, *how):\n"
            "    self._started().kill(); return ask(self, *how)\n"
            "hands.Hands._ask = deadly\n"
            "from ingestd.cli import main; sys.argv[0] = 'ingestd'; main()"
        )
        run(
            "run",
            "--once",
            "-c",
            "x.yaml",
            cwd=self.root,
            code=1,
            command=(sys.executable, "-c", program),
        )

    def names(self, *below: str) -> list[str]:
        """The names in a directory, sorted; of one that is not there, none."""
        directory = self.root.joinpath(*below)
        return sorted(p.name for p in directory.iterdir()) if directory.exists() else []

    def assert_all_done(self) -> None:
        """Every row of every file once, whole, in order; every file where it belongs."""
        for source in self.good:
            done = sorted([name for name, _ in self.good[source]] + self.again[source])
            bad = [name + end for name in self.bad[source] for end in ("", ".reason.json")]
            assert self.names("drop", source) == []
            assert self.names("done", source) == done
            assert self.names("failed", source) == sorted(bad)
        assert_rows(self.output, self.good)
        report = tail.verify(self.output)
        assert report.ok, report.problems
        left = [n for n in self.names("data") if n.endswith((".part", ".edit"))]
        assert left == []


def assert_rows(output: Path, good: dict[str, list[tuple[str, int]]]) -> None:
    """``output`` (closed in good order) holds the files of each source, and nothing else."""
    found: dict[str, dict[str, list[tuple[str, int]]]] = {}
    with h5py.File(output, "r") as file:
        for dataset in _datasets(file):
            files = found[dataset] = {}
            at = 0
            for record in file[layout.records_path(dataset)][:]:
                name, rows = os.fsdecode(bytes(record["name"])), int(record["rows"])
                assert record["first_row"] == at, (dataset, name)
                there = file[dataset][at : at + rows]
                assert np.array_equal(there, expected_rows(dataset, name, rows)), (dataset, name)
                files.setdefault(record["source"].decode(), []).append((name, rows))
                at += rows
            assert file[dataset].shape[0] == at, f"{dataset}: rows that no record names"
            if (key := layout.key_path(dataset)) in file:
                assert np.array_equal(file[key], np.arange(at) + 1), f"{dataset}: wrong keys"
                assert file[layout.finished_path(dataset)][:].tolist() == [1]
    for source, dropped in good.items():
        datasets = ["/pairs/X", "/pairs/y"] if source == "pairs" else []
        datasets = datasets or [name for name, files in found.items() if source in files]
        assert len(datasets) == (2 if source == "pairs" else 1), (source, datasets)
        for dataset in datasets:
            assert found[dataset][source] == dropped, dataset


def _datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file[layout.GROUP].visititems(
        lambda name, item: (
            names.append(layout.dataset_path(f"{layout.GROUP}/{name}"))
            if isinstance(item, h5py.Dataset) and layout.is_records(name)
            else None
        )
    )
    return names


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def _savez(path: Path, **arrays: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)
