"""The committer: one batch after the other, and a failure reaches whoever hands over the next."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from flows import drop_file, make_config, rows_of
from helpers import until

from ingestd.errors import BusyWorld, SyncFailed
from ingestd.ledger import Ledger
from ingestd.lifecycle import State
from ingestd.model import DropFile, Entry, Placement, RowRange
from ingestd.pipeline.commit import Batch, Committer, Progress
from ingestd.pipeline.reorder import Closed
from ingestd.service import Service


class Bench:
    """A committer with all that is around it."""

    def __init__(self, root: Path) -> None:
        self.config = make_config(root)
        self.source = self.config.sources["s"]
        self.ledger = Ledger(root / "ledger.sqlite")
        self.finished_files: list[tuple[str, bool]] = []
        self.through = 0
        self.progress = Progress()
        self.committer = Committer(
            self.config, self.ledger, self, self.progress, self._count_through
        )

    def _count_through(self) -> None:
        self.through += 1

    def finished(self, files: Iterable[DropFile], *, released: bool) -> None:
        self.finished_files += [(file.name, released) for file in files]

    def batch(self, *numbers: int, barrier: Callable[[], None] = lambda: None) -> Batch:
        """Files that are pending in the ledger."""
        entries = []
        for number in numbers:
            (self.source.drop / f"{number}.npy").write_bytes(b"x")
            placement = Placement("/data", RowRange(number, number + 1), "d")
            file = drop_file(self.source, f"{number}.npy")
            entries.append(Entry(number + 1, file, f"x{number}", "out.h5", (placement,)))
        self.ledger.intend(entries)
        return Batch(entries, [], [barrier])

    def states(self) -> list[str]:
        return [row[0] for row in self.ledger._db.execute("SELECT state FROM files ORDER BY id")]


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.committer._hands.close()
    made.ledger.close()


def started(committer: Committer) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            committer.run()
        except BusyWorld as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, failures


def test_batches_are_committed_one_after_the_other_and_the_last_before_the_end(bench) -> None:
    thread, failures = started(bench.committer)
    held = threading.Event()

    bench.committer.hand(bench.batch(0, 1, barrier=lambda: held.wait(10)))
    assert bench.committer.busy()
    assert bench.states() == ["pending"] * 2
    held.set()
    bench.committer.hand(bench.batch(2))
    bench.committer.finish()
    thread.join(10)

    assert not thread.is_alive() and not failures
    assert bench.states() == ["committed"] * 3
    assert bench.finished_files == [("0.npy", True), ("1.npy", True), ("2.npy", True)]
    assert (bench.progress.files, bench.progress.rows, bench.through) == (3, 3, 2)


def test_many_files_leave_together(bench) -> None:
    bench.committer.commit(bench.batch(*range(40)))

    assert len(list(bench.source.after.directory.iterdir())) == 40
    assert list(bench.source.drop.iterdir()) == []
    assert bench.ledger.unreleased() == []


def test_of_many_files_those_that_cannot_leave_are_known(bench, caplog) -> None:
    batch = bench.batch(*range(40))
    (bench.source.after.directory / "3.npy").mkdir(parents=True)
    (bench.source.after.directory / "3.1.npy").mkdir()

    bench.committer.commit(batch)

    assert ("3.npy", True) in bench.finished_files
    assert (bench.source.after.directory / "3.2.npy").is_file()


def test_a_sync_that_fails_commits_nothing_and_closes_the_door(bench) -> None:
    thread, failures = started(bench.committer)

    def fail() -> None:
        raise SyncFailed("no space left")

    bench.committer.hand(bench.batch(0, barrier=fail))
    until(lambda: not thread.is_alive(), "it ended")

    assert isinstance(failures[0], SyncFailed)
    assert bench.states() == ["pending"]
    assert (bench.source.drop / "0.npy").exists()
    with pytest.raises(Closed):
        bench.committer.hand(bench.batch(1))


def test_what_was_published_meanwhile_can_be_withdrawn_too(bench) -> None:
    bench.batch(0, 1)

    bench.ledger.withdraw_all()

    assert bench.states() == []
    assert bench.ledger.known(drop_file(bench.source, "0.npy")) is State.NEW


def test_after_a_sync_that_failed_nothing_pending_is_believed(tmp_path, monkeypatch) -> None:
    config = make_config(tmp_path)
    np.save(tmp_path / "drop/a.npy", np.arange(5))
    real, calls = os.fsync, itertools.count()

    def fail_once(fd: int) -> None:
        # Only the output's: directories and new files are synced before it.
        if Path(f"/proc/self/fd/{fd}").readlink().name == "out.h5" and next(calls) == 0:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fail_once)

    with pytest.raises(SyncFailed):
        Service(config, once=True).run()
    ledger = Ledger(config.state / "ledger.sqlite")
    pending = ledger.pending(str(tmp_path / "out.h5"))
    ledger.close()
    Service(config, once=True).run()

    assert pending == []
    assert rows_of(tmp_path / "out.h5").tolist() == [0, 1, 2, 3, 4]
    assert (tmp_path / "done/a.npy").exists()
