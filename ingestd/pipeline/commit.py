"""The commit, beside the writer: disk, then ledger, then the drop files are let go.

A file is let go only when its rows are safe. While one commit waits for the disk the writer goes
on, and what it publishes meanwhile is the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from logging import INFO
from typing import Protocol

from ingestd.config import Config
from ingestd.journal import event
from ingestd.ledger import Ledger, Settled
from ingestd.model import DropFile, Entry
from ingestd.pipeline import archive
from ingestd.pipeline.hands import Hands
from ingestd.pipeline.reorder import Closed


@dataclass(slots=True)
class Progress:
    """What was done since the start; others may read it at any time."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0
    quarantined: int = 0
    beat: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Files whose fate is known, whatever it is."""
        return self.files + self.skipped + self.quarantined


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that go together: ``entries`` are published, ``twins`` bring nothing new.

    ``barriers`` make what was flushed to each output durable.
    """

    entries: Sequence[Entry]
    twins: Sequence[Settled]
    barriers: Sequence[Callable[[], None]]


class Finished(Protocol):
    """Who wants to know of files that are done with."""

    def finished(self, files: Iterable[DropFile], *, released: bool) -> None:
        """They are done with, and if ``released`` have left their drop directory."""
        ...


class Committer:
    """Commits one batch after the other, in a thread of its own (``run``)."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        flow: Finished,
        progress: Progress,
        through: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._flow = flow
        self._progress = progress
        self._through = through
        self._hands = Hands()
        self._batch: Batch | None = None
        self._last = False
        self._ended = False
        self._changed = threading.Condition()

    def busy(self) -> bool:
        """Whether a batch is under way, so that ``hand`` would wait."""
        return self._batch is not None

    def hand(self, batch: Batch) -> None:
        """Let ``batch`` be committed after the one that is under way, which is waited for.

        :raises Closed: a commit has failed: the flow is stopping.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._batch is None or self._ended)
            if self._ended:
                raise Closed
            self._batch = batch
            self._changed.notify_all()

    def finish(self) -> None:
        """No further batch will come."""
        with self._changed:
            self._last = True
            self._changed.notify_all()

    def run(self) -> None:
        """Commit what is handed over, until the last of it."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._batch is not None or self._last)
                    batch = self._batch
                if batch is None:
                    return
                self.commit(batch)
                with self._changed:
                    self._batch = None
                    self._changed.notify_all()
                self._through()
        finally:
            self._hands.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def commit(self, batch: Batch) -> None:
        """Disk, then ledger, then the drop files.

        A crash between any two leaves a file that the ledger knows, and recovery lets it go.

        :raises SyncFailed: the disk did not take it. All that is pending is then withdrawn.
        """
        ids = [e.file_id for e in batch.entries]
        for barrier in batch.barriers:
            barrier()
        if ids:
            self._ledger.commit(ids, self._config.commit.durability == "synced")
        if batch.twins:
            self._ledger.settle(batch.twins)
        self._report(batch)
        self._release(batch)

    def _release(self, batch: Batch) -> None:
        done = [(e.file_id, e.file, "") for e in batch.entries]
        done += [(t.file_id, t.file, "") for t in batch.twins]
        released = archive.let_go(self._config.sources, done, hands=self._hands)
        if released:
            self._ledger.release(released)
        self._flow.finished([f for i, f, _ in done if i in released], released=True)
        if len(released) < len(done):
            self._flow.finished([f for i, f, _ in done if i not in released], released=False)

    def _report(self, batch: Batch) -> None:
        self._progress.files += len(batch.entries)
        self._progress.skipped += len(batch.twins)
        for source, group in groupby(batch.entries, key=lambda e: e.file.source):
            files = list(group)
            rows = sum(p.rows.stop - p.rows.start for e in files for p in e.placements)
            self._progress.rows += rows
            event(
                INFO,
                "committed",
                source=source,
                files=len(files),
                rows=rows,
                last=files[-1].file,
            )
