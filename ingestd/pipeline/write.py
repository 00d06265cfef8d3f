"""The single writer. Every row is written once, in file order, and readers see whole files.

It alone touches the outputs. What it holds in memory can be made again from the drop files, which
stay where they are until a commit has made their rows safe.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING
from pathlib import Path
from typing import NamedTuple, Protocol

from ingestd.config import Config, Source, Target, wildcard
from ingestd.errors import BadFile, BrokenInvariant
from ingestd.journal import event
from ingestd.layout import captures_text
from ingestd.ledger import Ledger, Settled
from ingestd.lifecycle import State
from ingestd.model import (
    Block,
    Bundle,
    Decoded,
    DropFile,
    Entry,
    Failed,
    Message,
    NotYet,
    Opened,
    Placement,
    RowRange,
    RowType,
)
from ingestd.pipeline import archive
from ingestd.pipeline.appending import Appending, Placed, check_places
from ingestd.pipeline.commit import Batch, Committer, Progress
from ingestd.pipeline.outputs import Outputs
from ingestd.pipeline.plan import check_types, dataset_spec
from ingestd.pipeline.records import append_records, check_rows
from ingestd.pipeline.reorder import Reorder
from ingestd.sinks import Sink

PUBLISH_SECONDS = 0.05
"""Under load, rows become visible at least this often."""

HELD_SECONDS = 0.25
"""Files that wait for a partial chunk are looked at again no sooner than this."""

UNCOMMITTED_FILES_MAX = 16_384
"""So many files wait for a commit at the most: then the writer waits for the one under way."""

BYTES_EAGER = 64 << 20
"""So many bytes are worth a commit of their own, so that the disk begins early."""

FILES_EAGER = 4096


class Tickets(Protocol):
    """The files that are in the flow, as the writer sees them."""

    def file(self, ticket: int) -> DropFile:
        """The file of ``ticket`` whose turn it is."""
        ...

    def leave(self, ticket: int, count: int = 1) -> Sequence[DropFile]:
        """The next ``count`` files of ``ticket``, of which no more will be said."""
        ...

    def again(self, file: DropFile, why: NotYet) -> None:
        """``file`` came too early."""
        ...

    def held(self, count: int) -> None:
        """So many files are decoded, and wait for others before they can be committed."""
        ...

    def finished(self, files: Iterable[DropFile], *, released: bool) -> None:
        """They are done with, and if ``released`` have left their drop directory."""
        ...


_Content = tuple[str, str, str]


class _Written(NamedTuple):
    """A file whose rows were appended; it has no records yet."""

    file: DropFile
    digest: str
    output: str
    placements: tuple[Placement, ...]
    captures: str


@dataclass(slots=True)
class _Open:
    """The file that is being written (``rows``), or passed over: it is bad, or another's twin."""

    source: Source
    target: Target
    digest: str
    rows: Appending | None = None
    bad: BadFile | None = None
    twin: str | None = None


class Writer:
    """Takes what was decoded and appends it; ``outputs`` are open, sound, and its alone."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        outputs: Outputs,
        reorder: Reorder,
        tickets: Tickets,
        committer: Committer,
        progress: Progress,
        turn: threading.Lock,
        read_back: bool = False,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._outputs = outputs
        self._reorder = reorder
        self._tickets = tickets
        self._committer = committer
        self._progress = progress
        self._turn = turn
        self._read_back = read_back
        self._open: _Open | None = None
        self._last_id = ledger.last_id()
        self._written: list[_Written] = []
        self._published: list[Entry] = []  # records written, the commit is to come
        self._twins: list[tuple[_Content | None, Settled]] = []
        self._digests: dict[_Content, DropFile] = {}  # what the ledger does not know yet
        self._placed = Placed(ledger)
        self._fresh = False  # there is something that was not yet tried to publish
        self._unsynced_bytes = 0
        self._publish_due = self._commit_due = float("inf")

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
                # Files that wait for a partial chunk become fewer by a whole commit only.
                self.commit(whole=self._waiting() >= UNCOMMITTED_FILES_MAX)
            elif now >= self._publish_due:
                self.publish()
        self._take_back()
        self.commit(whole=True)

    def _waiting(self) -> int:
        """Files that have no records yet, and twins of such."""
        return len(self._written) + len(self._twins)

    def _patience(self, now: float) -> float:
        """Seconds to wait for more before what is there is committed."""
        if (self._fresh or self._published) and not self._committer.busy():
            return 0.0
        # While a commit is under way no other can begin: its end wakes us.
        due = self._publish_due
        if not self._committer.busy():
            due = min(due, self._commit_due)
        return max(0.0, min(0.5, due - now))

    def _commit_wanted(self, *, idle: bool, now: float) -> bool:
        if self._waiting() + len(self._published) >= UNCOMMITTED_FILES_MAX:
            return True
        if self._committer.busy():
            return False
        if self._unsynced_bytes >= BYTES_EAGER or len(self._published) >= FILES_EAGER:
            return True
        return now >= self._commit_due or (idle and (self._fresh or bool(self._published)))

    # One message

    def _handle(self, ticket: int, message: Message) -> None:
        match message:
            case Bundle():
                self._append_all(ticket, message)
            case Opened():
                self._open = self._begin(self._tickets.file(ticket), message)
            case Block():
                self._append(ticket, message)
            case Decoded():
                self._end(self._left(ticket), message)
            case NotYet():
                self._take_back()
                self._tickets.again(self._left(ticket), message)
            case Failed():
                self._take_back()
                self._quarantine(self._left(ticket), message.reason)

    def _left(self, ticket: int) -> DropFile:
        return self._tickets.leave(ticket)[0]

    def _begin(self, file: DropFile, message: Opened) -> _Open:
        source = self._config.sources[file.source]
        captures = source.captures(file.name)
        opened = _Open(source, source.target(captures), message.digest)
        try:
            # Before the ledger is asked: one that was lost learns from the output what it has.
            sink = self._sink(source, opened.target)
            if message.digest:
                opened.twin = self._twin(source, opened.target, file, message.digest)
            if opened.twin is None:
                self._prepare(sink, opened.target, message.types, message.rows)
                opened.rows = Appending(
                    sink, opened.target, captures, message.types.keys(), self._placed
                )
        except BadFile as error:
            opened.bad = error
        return opened

    def _sink(self, source: Source, target: Target) -> Sink:
        """:raises BadFile: an output that captures name is not as the ledger has it."""
        captured = wildcard(source.output) is not None
        if captured and self._outputs.gone(target.output) and self._all_committed(target.output):
            self._outputs.close(target.output)
        try:
            return self._outputs[target.output]
        except BrokenInvariant as error:
            if not captured:
                raise
            # Of many outputs one that is gone, an old run's say, harms the files that go there.
            raise BadFile(
                f"an output {target.output} that can be written",
                str(error),
                "Then: ingestd retry",
            ) from error

    def _all_committed(self, output: Path) -> bool:
        outputs = {w.output for w in self._written} | {e.output for e in self._published}
        return not self._committer.busy() and str(output) not in outputs

    def _prepare(
        self,
        sink: Sink,
        target: Target,
        types: Mapping[str, RowType],
        rows: Mapping[str, int | None],
    ) -> None:
        """See to it that the datasets are there, and hold rows of these types.

        ``rows`` are those of the first file, which its chunks are fitted to.

        :raises BadFile: they do not.
        """
        check_types(target.output, sink.types, types)
        check_places(target, types.keys() & sink.types.keys(), sink)
        if types.keys() <= sink.types.keys():
            return
        specs = {
            path: dataset_spec(target.datasets[path], row_type, rows.get(path))
            for path, row_type in types.items()
        }
        sink.ensure(specs, target.attrs)
        # What HDF5 makes of a dtype may differ from it: without its titles, say.
        check_types(target.output, sink.types, types)

    def _twin(self, source: Source, target: Target, file: DropFile, digest: str) -> str | None:
        """The file that brought this content before, if for that reason its rows are not taken.

        :raises BadFile: for that reason it is bad.
        """
        # Whatever becomes of duplicates: a file that comes again because it never left is none.
        if self._ledger.took(file, digest):
            return str(file)
        # What stands at a file's place says whether its rows are there, not its content alone.
        if source.duplicates == "append" or source.placed:
            return None
        waiting = self._digests.get(_content(source, target, digest))
        where = None if source.fixed else (str(target.output), target.datasets)
        twin = str(waiting) if waiting else self._ledger.holds(source.name, digest, where)
        if twin and source.duplicates == "quarantine":
            raise BadFile(
                "content not seen before",
                f"the same content as {twin}",
                "Set 'duplicates: append' if files may repeat",
            )
        return twin

    def _append(self, ticket: int, block: Block) -> None:
        opened = self._open
        assert opened is not None
        if opened.rows is not None:
            self._count(opened.rows.write(block))
        self._reorder.written(ticket, block.rows.nbytes)

    def _count(self, nbytes: int) -> None:
        self._progress.bytes += nbytes
        self._unsynced_bytes += nbytes

    def _end(self, file: DropFile, decoded: Decoded) -> None:
        opened = self._open
        assert opened is not None
        digest = opened.digest or decoded.digest
        try:
            if opened.bad is not None:
                raise opened.bad
            # Of a large file the digest is only known now.
            twin = opened.twin
            if twin is None and not opened.digest:
                twin = self._twin(opened.source, opened.target, file, digest)
            if twin is not None:
                self._take_back()
                content = _content(opened.source, opened.target, digest)
                self._skip(file, digest, f"same content as {twin}", content)
            else:
                assert opened.rows is not None
                self._end_of_rows(file, digest, opened, opened.rows, decoded.digests)
        except BadFile as error:
            self._take_back()
            self._quarantine(file, error)
        self._open = None
        self._schedule()

    def _end_of_rows(
        self,
        file: DropFile,
        digest: str,
        opened: _Open,
        rows: Appending,
        digests: Mapping[str, str],
    ) -> None:
        """:raises BadFile: their place is taken by others."""
        placements = rows.placements(digests)
        if rows.taken is not None:
            self.publish(whole=True)
            rows.check_same(placements)
            self._skip(file, digest, f"rows like these are at its place in {rows.taken}")
        elif not placements:
            self._skip(file, digest, "the transform returned no rows")
        else:
            rows.keep(placements)
            self._keep(file, digest, opened.source, opened.target, placements)

    def _append_all(self, ticket: int, bundle: Bundle) -> None:
        """Append small files together: what the steps above would make of one after the other."""
        with self._turn:
            self._append_bundle(ticket, bundle)

    def _append_bundle(self, ticket: int, bundle: Bundle) -> None:
        files = self._tickets.leave(ticket, len(bundle.digests))
        source = self._config.sources[files[0].source]
        target, sink = source.target({}), self._outputs[source.output]
        seen = self._ledger.seen([digest for digest, _ in bundle.digests])
        fresh: list[int] = []
        for number, (file, (digest, _)) in enumerate(zip(files, bundle.digests, strict=True)):
            try:
                known = digest in seen or _content(source, target, digest) in self._digests
                twin = self._twin(source, target, file, digest) if known else None
                if twin is not None:
                    content = _content(source, target, digest)
                    self._skip(file, digest, f"same content as {twin}", content)
                    continue
                if not fresh:
                    types, rows = {bundle.dataset: bundle.type}, {bundle.dataset: bundle.file_rows}
                    self._prepare(sink, target, types, rows)
            except BadFile as error:
                self._quarantine(file, error)
            else:
                fresh.append(number)
                self._digests[_content(source, target, digest)] = file
        if fresh:
            self._append_fresh(source, target, bundle, files, fresh)
        self._reorder.written(ticket, bundle.rows.nbytes)
        self._schedule()

    def _append_fresh(
        self,
        source: Source,
        target: Target,
        bundle: Bundle,
        files: Sequence[DropFile],
        fresh: list[int],
    ) -> None:
        """Append the rows of those files of the bundle whose numbers are ``fresh``."""
        rows, step = bundle.rows, bundle.file_rows
        if len(fresh) < len(files):
            by_file = rows.reshape(len(files), step, *rows.shape[1:])
            rows = by_file[fresh].reshape(-1, *rows.shape[1:])
        at = self._outputs[source.output].append(bundle.dataset, rows).start
        self._count(rows.nbytes)
        for number in fresh:
            digest, rows_digest = bundle.digests[number]
            placement = Placement(bundle.dataset, RowRange(at, at + step), rows_digest)
            self._keep(files[number], digest, source, target, (placement,))
            at += step

    def _keep(
        self,
        file: DropFile,
        digest: str,
        source: Source,
        target: Target,
        placements: tuple[Placement, ...],
    ) -> None:
        captures = captures_text(source.captures(file.name))
        self._written.append(_Written(file, digest, str(target.output), placements, captures))
        self._digests[_content(source, target, digest)] = file

    def _skip(self, file: DropFile, digest: str, why: str, content: _Content | None = None) -> None:
        """:param content: what it repeats, if that may still be on its way."""
        event(INFO, f"skipped: {why}", source=file.source, file=file)
        self._twins.append((content, Settled(self._new_ids(), file, State.SKIPPED, why, digest)))

    def _schedule(self) -> None:
        now = time.monotonic()
        self._fresh = True
        self._publish_due = min(self._publish_due, now + PUBLISH_SECONDS)
        self._commit_due = min(self._commit_due, now + self._config.commit.every)

    def _new_ids(self, count: int = 1) -> int:
        """The first of ``count`` ids. They rise, also from a lost ledger to the next."""
        first = max(self._last_id + 1, time.time_ns() // 1000)
        self._last_id = first + count - 1
        return first

    def _take_back(self) -> None:
        """Undo what was written of a file that did not come to its end."""
        opened, self._open = self._open, None
        if opened is not None and opened.rows is not None:
            opened.rows.undo()

    def _quarantine(self, file: DropFile, error: BadFile) -> None:
        reason = archive.reason_json(file, error)
        file_id = self._new_ids()
        self._ledger.settle([Settled(file_id, file, State.QUARANTINED, reason)])
        self._progress.quarantined += 1
        directory = self._config.sources[file.source].quarantine
        event(WARNING, f"quarantined: {error}", source=file.source, file=file, to=directory)
        released = archive.let_go(self._config.sources, [(file_id, file, reason)])
        if released:
            self._ledger.release(released)
        self._tickets.finished([file], released=bool(released))

    # The commit sequence

    def publish(self, *, whole: bool = False) -> None:
        """Rows, then what was meant, then the records: readers see whole files.

        A crash between any two leaves rows without records, which recovery cuts, or rows that
        the ledger calls pending, which recovery finishes. Rows of a partial compressed chunk may
        have to wait, and their files with them, but for ``whole``.
        """
        self._fresh = False
        self._publish_due = float("inf")
        with self._turn:
            for output in {w.output for w in self._written}:
                self._outputs[Path(output)].flush(whole=whole)
            written, self._written = self._visible()
            if written:
                self._publish(written)
        waiting = {w.file for w in self._written}
        self._digests = {c: file for c, file in self._digests.items() if file in waiting}

    def _visible(self) -> tuple[list[_Written], list[_Written]]:
        """The files whose rows readers see, and those that wait, both in order.

        A record says that all rows below its end are final: where one file waits, so do those
        after it in any of its datasets.
        """
        # Of the rows that are seen; -1: a file waits.
        ends = {(w.output, p.dataset): 0 for w in self._written for p in w.placements}
        behind = False
        for output, dataset in ends:
            sink = self._outputs[Path(output)]
            ends[output, dataset] = sink.visible(dataset)
            behind |= sink.visible(dataset) < sink.rows(dataset)
        if not behind:
            return self._written, []
        visible: list[_Written] = []
        waiting: list[_Written] = []
        for w in self._written:
            keys = [(w.output, p.dataset) for p in w.placements]
            if all(p.rows.stop <= ends[key] for key, p in zip(keys, w.placements, strict=True)):
                visible.append(w)
            else:
                waiting.append(w)
                ends.update(dict.fromkeys(keys, -1))
        return visible, waiting

    def _publish(self, written: list[_Written]) -> None:
        first = self._new_ids(len(written))
        entries = [Entry(first + number, *w) for number, w in enumerate(written)]
        self._ledger.intend(entries)
        for output in {e.output for e in entries}:
            sink = self._outputs[Path(output)]
            append_records(sink, [e for e in entries if e.output == output])
            sink.flush(whole=False)
        self._published += entries

    def commit(self, *, whole: bool = False) -> None:
        """Publish, and hand over what is published: the disk, the ledger and the drop files come
        next (``Committer.commit``)."""
        self.publish(whole=whole)
        entries, self._published = self._published, []
        # A twin may go when its like is safe, not before.
        twins = [twin for content, twin in self._twins if content not in self._digests]
        self._twins = [(c, twin) for c, twin in self._twins if c in self._digests]
        if self._read_back and entries:
            for output in {e.output for e in entries}:
                self._outputs[Path(output)].barrier()()
            check_rows(self._outputs, entries)
            self._read_back = False
        outputs = {Path(name) for name in {e.output for e in entries}}
        if self._open is not None:
            outputs.add(self._open.target.output)
        durable = self._config.commit.durability == "synced"
        barriers = [self._outputs[output].barrier() for output in outputs] if durable else []
        self._unsynced_bytes = 0
        self._tickets.held(self._waiting())
        again = time.monotonic() + max(self._config.commit.every, HELD_SECONDS)
        self._commit_due = again if self._written else float("inf")
        if entries or twins or barriers:
            self._committer.hand(Batch(entries, twins, barriers))
            # The commit before this one is through.
            in_use = outputs | {Path(w.output) for w in self._written}
            self._outputs.close_idle(in_use)


def _content(source: Source, target: Target, digest: str) -> _Content:
    """What makes two files of a source the same: what they hold, and where it goes."""
    where = "" if source.fixed else "\0".join([str(target.output), *target.datasets])
    return source.name, where, digest
