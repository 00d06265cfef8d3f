"""The single writer. Every row is written once, in file order, and released only when safe.

It alone touches the outputs. What it holds in memory between two commits can be made again
from the drop files, which stay where they are until ``commit`` has ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from logging import INFO, WARNING
from pathlib import Path
from typing import Protocol

import numpy as np

from ingestd.config import Config, Source
from ingestd.errors import BadFile, BrokenInvariant, BusyWorld
from ingestd.journal import event
from ingestd.layout import NAME_BYTES, RECORD, records_path
from ingestd.ledger import Ledger, Settled
from ingestd.lifecycle import State
from ingestd.model import (
    Block,
    Decoded,
    DropFile,
    Entry,
    Failed,
    Message,
    NotYet,
    Opened,
    Placement,
    RowRange,
)
from ingestd.pipeline import archive
from ingestd.pipeline.plan import check_types, dataset_spec
from ingestd.pipeline.reorder import Reorder
from ingestd.sinks import Sink

PUBLISH_SECONDS = 0.05
"""Under load, rows become visible at least this often."""

FILES_MAX = 4096
"""A commit is due when so many files wait for it, however little time has passed."""


class Tickets(Protocol):
    """The files that are in the flow, as the writer sees them."""

    def file(self, ticket: int) -> DropFile:
        """The file of ``ticket``."""
        ...

    def leave(self, ticket: int) -> DropFile:
        """The file of ``ticket``, of which no more will be said."""
        ...

    def again(self, file: DropFile, why: NotYet) -> None:
        """``file`` came too early."""
        ...

    def finished(self, file: DropFile, *, released: bool) -> None:
        """``file`` is done with, and if ``released`` has left its drop directory."""
        ...


@dataclass(slots=True)
class Progress:
    """What the writer has done since it began; others may read it at any time."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0
    quarantined: int = 0
    beat: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Open:
    """The file that is being appended, or passed over: it is bad, or a twin of another."""

    file: DropFile
    source: Source
    digest: str
    sink: Sink
    bad: BadFile | None = None
    twin: str | None = None
    starts: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)


class Writer:
    """Takes what was decoded and appends it; ``outputs`` are open, sound, and its alone."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        outputs: Mapping[Path, Sink],
        reorder: Reorder,
        tickets: Tickets,
        progress: Progress,
        read_back: bool = False,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._outputs = outputs
        self._reorder = reorder
        self._tickets = tickets
        self._progress = progress
        self._read_back = read_back
        self._open: _Open | None = None
        self._last_id = ledger.last_id()
        self._written: list[Entry] = []  # rows appended, no records yet
        self._published: list[Entry] = []  # records written, the commit is to come
        self._skipped: list[_Open] = []
        self._digests: dict[tuple[str, str], str] = {}  # not yet committed content: its file
        self._publish_due = self._commit_due = float("inf")
        # A partly filled compressed chunk is written anew at each flush, and SWMR never
        # recycles the old one: files of such sources are flushed only with the commit.
        self._slow = {
            name
            for name, source in config.sources.items()
            if any(d.compression.name != "none" for d in source.datasets.values())
        }
        self._slow_waits = False

    def run(self, stopping: Callable[[], bool]) -> None:
        """Write until stopped; then what is wholly decoded is committed, and the rest cut."""
        while True:
            now = self._progress.beat = time.monotonic()
            taken = self._reorder.take(self._patience(now))
            if taken:
                self._handle(*taken)
            elif stopping():
                break
            now = time.monotonic()
            if self._commit_wanted(idle=not taken, now=now):
                self.commit()
            elif now >= self._publish_due:
                self.publish()
        self._take_back()
        self.commit()

    def _waits(self) -> int:
        return len(self._written) + len(self._published) + len(self._skipped)

    def _patience(self, now: float) -> float:
        """Seconds to wait for more before what is there is committed."""
        if self._slow_waits or not self._waits():
            return max(0.0, min(0.5, self._commit_due - now))
        return 0.0

    def _commit_wanted(self, *, idle: bool, now: float) -> bool:
        if not self._waits():
            return False
        at_once = idle and not self._slow_waits
        return at_once or now >= self._commit_due or self._waits() >= FILES_MAX

    # One message

    def _handle(self, ticket: int, message: Message) -> None:
        match message:
            case Opened():
                self._open = self._begin(self._tickets.file(ticket), message)
            case Block():
                self._append(ticket, message)
            case Decoded():
                self._end(self._tickets.leave(ticket), message)
            case NotYet():
                self._take_back()
                self._tickets.again(self._tickets.leave(ticket), message)
            case Failed():
                self._take_back()
                self._quarantine(self._tickets.leave(ticket), message.reason)

    def _begin(self, file: DropFile, message: Opened) -> _Open:
        source = self._config.sources[file.source]
        opened = _Open(file, source, message.digest, self._outputs[source.output])
        twin = self._twin(source, message.digest)
        # Whatever becomes of duplicates: a file that comes again because it never left is none.
        itself = self._ledger.took(file, message.digest)
        if itself or (twin and source.duplicates == "skip"):
            opened.twin = str(file) if itself else twin
            return opened
        try:
            if twin:
                raise BadFile(
                    "content not seen before",
                    f"the same content as {twin}",
                    "Set 'duplicates: append' if files may repeat",
                )
            check_types(source, opened.sink.types, message.types)
            specs = {
                path: dataset_spec(source.datasets[path], t) for path, t in message.types.items()
            }
            opened.sink.ensure(specs, source.attrs)
            # What HDF5 makes of a dtype may differ from it: without its titles, say.
            check_types(source, opened.sink.types, message.types)
        except BadFile as error:
            opened.bad = error
            return opened
        opened.starts = {path: opened.sink.rows(path) for path in message.types}
        opened.ends = dict(opened.starts)
        return opened

    def _twin(self, source: Source, digest: str) -> str | None:
        """The file that brought this content before, where that matters."""
        if source.duplicates == "append":
            return None
        waiting = self._digests.get((source.name, digest))
        return waiting or self._ledger.holds(source.name, digest)

    def _append(self, ticket: int, block: Block) -> None:
        opened = self._open
        assert opened is not None
        if opened.starts:
            opened.ends[block.dataset] = opened.sink.append(block.dataset, block.rows).stop
            self._progress.bytes += block.rows.nbytes
        self._reorder.release(ticket, block.rows.nbytes)

    def _end(self, file: DropFile, decoded: Decoded) -> None:
        opened, self._open = self._open, None
        assert opened is not None
        if opened.bad is not None:
            self._quarantine(file, opened.bad)
            return
        if opened.twin is not None:
            self._skipped.append(opened)
        else:
            placements = tuple(
                Placement(path, RowRange(opened.starts[path], opened.ends[path]), digest)
                for path, digest in decoded.digests.items()
            )
            output = str(opened.source.output)
            self._written.append(Entry(self._new_id(), file, opened.digest, output, placements))
            self._digests[file.source, opened.digest] = str(file)
            self._slow_waits |= file.source in self._slow
        now = time.monotonic()
        if not self._slow_waits:
            self._publish_due = min(self._publish_due, now + PUBLISH_SECONDS)
        self._commit_due = min(self._commit_due, now + self._config.commit.every)

    def _new_id(self) -> int:
        """Ids rise, also from one ledger to the next, should this one be lost."""
        self._last_id = max(self._last_id + 1, time.time_ns() // 1000)
        return self._last_id

    def _take_back(self) -> None:
        """Cut the rows of a file that did not come to its end."""
        opened, self._open = self._open, None
        if opened is not None and opened.ends != opened.starts:
            opened.sink.cut(opened.starts)

    def _quarantine(self, file: DropFile, error: BadFile) -> None:
        reason = archive.reason_json(file, error)
        file_id = self._new_id()
        self._ledger.settle([Settled(file_id, file, State.QUARANTINED, reason)])
        self._progress.quarantined += 1
        directory = self._config.sources[file.source].quarantine
        event(WARNING, f"quarantined: {error}", source=file.source, file=file, to=directory)
        self._release([(file_id, file, reason)])

    # The commit sequence

    def publish(self) -> None:
        """Rows, then what was meant, then the records: readers see whole files.

        A crash between any two leaves rows without records, which recovery cuts, or rows that
        the ledger calls pending, which recovery finishes.
        """
        entries, self._written = self._written, []
        if not entries:
            return
        touched = {e.output: self._outputs[Path(e.output)] for e in entries}
        for sink in touched.values():
            sink.flush()
        self._ledger.intend(entries)
        for output, sink in touched.items():
            append_records(sink, [e for e in entries if e.output == output])
            sink.flush()
        self._published += entries
        self._publish_due = float("inf")

    def commit(self) -> None:
        """Disk, then ledger, then the drop files: a file is let go only when its rows are safe.

        A crash between any two leaves a file that the ledger knows, and recovery lets it go.
        """
        self.publish()
        entries, self._published = self._published, []
        skipped, self._skipped = self._skipped, []
        durable = self._config.commit.durability == "synced"
        try:
            for output in {e.output for e in entries}:
                self._outputs[Path(output)].flush(durable=durable)
        except BusyWorld:
            # After a failed fsync the kernel may call pages clean that never reached the disk:
            # these rows would read back right, and be gone after a loss of power. Write anew.
            self._ledger.withdraw([e.file_id for e in entries])
            raise
        if entries:
            if self._read_back:
                _check_rows(self._outputs, entries)
                self._read_back = False
            self._ledger.commit([e.file_id for e in entries], durable)
        twins = [self._skip(opened) for opened in skipped]
        if twins:
            self._ledger.settle(twins)
        self._report(entries, len(twins))
        done = [(e.file_id, e.file, "") for e in entries]
        self._release(done + [(t.file_id, t.file, "") for t in twins])
        self._digests.clear()
        self._slow_waits = False
        self._commit_due = float("inf")

    def _skip(self, opened: _Open) -> Settled:
        why = f"same content as {opened.twin}"
        event(INFO, f"skipped: {why}", source=opened.source.name, file=opened.file)
        return Settled(self._new_id(), opened.file, State.SKIPPED, why, opened.digest)

    def _release(self, done: list[tuple[int, DropFile, str]]) -> None:
        released = archive.let_go(self._config.sources, done)
        if released:
            self._ledger.release(released)
        for file_id, file, _ in done:
            self._tickets.finished(file, released=file_id in released)

    def _report(self, entries: list[Entry], skipped: int) -> None:
        self._progress.files += len(entries)
        self._progress.skipped += skipped
        for source, group in groupby(entries, key=lambda e: e.file.source):
            files = list(group)
            rows = sum(len(p.rows) for e in files for p in e.placements)
            self._progress.rows += rows
            event(
                INFO,
                "committed",
                source=source,
                files=len(files),
                rows=rows,
                last=files[-1].file,
            )


def append_records(
    sink: Sink, entries: list[Entry], there: Collection[tuple[int, str]] = ()
) -> None:
    """Append the record (``layout.RECORD``) of each entry, in every dataset that it feeds.

    ``there``: records that exist, by file id and dataset.
    """
    records: dict[str, list[tuple[object, ...]]] = {}
    now = time.time_ns()
    for e in entries:
        for p in e.placements:
            if (e.file_id, p.dataset) in there:
                continue
            records.setdefault(p.dataset, []).append(
                (
                    p.rows.start,
                    len(p.rows),
                    os.fsencode(e.file.name)[-NAME_BYTES:],
                    p.digest.encode(),
                    e.file.fingerprint.mtime_ns,
                    now,
                    e.file.source.encode(),
                    e.file_id,
                    e.digest.encode(),
                    len(e.placements),
                )
            )
    for path, rows in records.items():
        sink.append(records_path(path), np.array(rows, RECORD))


def _check_rows(outputs: Mapping[Path, Sink], entries: list[Entry]) -> None:
    """Read rows back that were written anew after a write had failed."""
    for entry in entries:
        for placement in entry.placements:
            digest = outputs[Path(entry.output)].digest(placement.dataset, placement.rows)
            if digest != placement.digest:
                raise BrokenInvariant(
                    f"{entry.output}:{placement.dataset}: rows of {entry.file} do not read back "
                    "as they were written; is the disk sound? The file stays where it is"
                )
