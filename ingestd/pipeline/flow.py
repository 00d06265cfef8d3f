"""The flow: watch -> decode -> reorder -> write -> commit, a thread or more for each.

If any part fails, all of them stop, and ``run`` raises why. Then nothing is lost: what was not
committed is still in the drop directories, and recovery puts the outputs right.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from ingestd.config import Config
from ingestd.errors import BusyWorld
from ingestd.journal import event
from ingestd.ledger import Ledger
from ingestd.lifecycle import State
from ingestd.model import DropFile, NotYet, Task
from ingestd.pipeline.bundle import SMALL_BYTES, Likes
from ingestd.pipeline.commit import Committer, Progress
from ingestd.pipeline.decode import Decoder
from ingestd.pipeline.outputs import Outputs
from ingestd.pipeline.recover import settle
from ingestd.pipeline.reorder import Reorder
from ingestd.pipeline.supervise import Supervisor
from ingestd.pipeline.transform import transforms
from ingestd.pipeline.watch import Watch
from ingestd.pipeline.write import Writer

DECODING_FILES_MAX = 4096
"""Files that are being decoded, or decoded and not written, at a time."""

_STUCK = (
    "files are done with, but cannot leave their drop directory: see the log for why. Mend that, "
    "then run again"
)

_UNREAD = "cannot be read, so nothing there was taken. Make it readable, then run again"


class Flow:
    """From drop directories to ``outputs``, which are open and sound. Used once.

    ``once``: it ends by itself when nothing is left to take. ``read_back``: a write failed
    before, so rows are read back before they are committed, until the first commit is through.
    ``on_end`` is called when a part of it has ended.
    """

    def __init__(
        self,
        config: Config,
        outputs: Outputs,
        ledger_path: Path,
        progress: Progress,
        *,
        once: bool = False,
        read_back: bool = False,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._outputs = outputs
        self._progress = progress
        self._once = once
        self._read_back = read_back
        self._reorder = Reorder(config.memory)
        self._tasks: queue.SimpleQueue[tuple[int, Task] | None] = queue.SimpleQueue()
        self._files: dict[int, deque[DropFile]] = {}  # of each ticket, those not done with
        self._handed = self._left = 0  # files handed out, and those the writer is through with
        self._returned = 0  # of those handed out, files that came too early
        self._done_before = progress.done
        self._held = 0  # files that wait in the writer for others
        self._complete = False  # with once: nothing is left to take
        self._stuck: set[DropFile] = set()
        # Python's own lock changes hands at every system call, at 50 times the call's cost: who has
        # small files to work on takes turns in larger steps.
        self._turn = threading.Lock()
        self._likes = Likes()
        self._transforms = transforms(config)
        self._watch = Watch(
            config.sources,
            config.scan,
            observe=not once,
            turn=self._turn,
            stopping=lambda: self._supervisor.stopping.is_set(),
        )
        self._supervisor = Supervisor(self._wake_all, on_end)
        self._ledger = Ledger(ledger_path)
        self._committer = Committer(config, self._ledger, self, progress, self._reorder.wake)

    def start(self) -> None:
        """Begin."""
        self._supervisor.start("watch", self._hand_out)
        for number in range(self._config.workers):
            self._supervisor.start(f"decode-{number}", self._decode)
        self._supervisor.start("write", self._write)
        self._supervisor.start("commit", self._committer.run)

    def stop(self) -> None:
        """Ask it to end: what is decoded is committed, nothing more is taken."""
        self._supervisor.stop()

    def running(self) -> bool:
        """Whether any part still works."""
        return self._supervisor.alive()

    def waiting(self) -> int:
        """Files that were seen, and are not done with."""
        in_flow = self._handed - self._returned - (self._progress.done - self._done_before)
        return sum(w.waiting for w in self._watch.sources.values()) + max(0, in_flow)

    def end(self) -> None:
        """Wait for the end; raises what made it fail."""
        self._supervisor.join()
        self._watch.close()
        self._ledger.close()
        failure = self._supervisor.failure
        if failure is not None:
            raise failure
        if self._complete and self._stuck:
            raise BusyWorld(f"{len(self._stuck)} {_STUCK}")
        if self._complete and (unread := self._watch.unread()):
            raise BusyWorld(f"{', '.join(unread)}: {_UNREAD}")

    def _wake_all(self) -> None:
        self._reorder.close()
        self._watch.bell.ring()
        for _ in range(self._config.workers):
            self._tasks.put(None)

    # watch

    def _hand_out(self) -> None:
        ledger = self._ledger
        self._settle(ledger)
        ticket = 0
        while not self._supervisor.stopping.is_set():
            self._watch.look(lambda file: ledger.known(file) is not State.NEW)
            while self._handed - self._left < DECODING_FILES_MAX and (files := self._watch.next()):
                self._files[ticket] = deque(files)
                self._handed += len(files)
                again = files[0].fingerprint.size > SMALL_BYTES and ledger.named(files[0])
                self._tasks.put((ticket, Task(files, again)))
                ticket += 1
            if self._once and self._watch.nothing_left(len(self._stuck) + self._held):
                self._complete = True
                self._supervisor.stop()
                return
            self._watch.bell.wait(self._watch.due_in())
            if self._stuck:
                self._settle(ledger)

    def _settle(self, ledger: Ledger) -> None:
        """Try again to let go of files that could not leave their drop directory."""
        before = self._stuck.copy()
        stuck = settle(ledger, self._config.sources, before)
        self._stuck -= before - stuck
        self._watch.finished(before - stuck)
        for file in stuck - before:
            self._watch.sources[file.source].out.add(file.name)
            self._stuck.add(file)

    # decode

    def _decode(self) -> None:
        config = self._config
        decoder = Decoder(
            config.sources, self._reorder, config.memory, self._likes, self._transforms
        )
        with contextlib.closing(decoder):
            while (task := self._tasks.get()) is not None:
                decoder.decode(*task)

    # write

    def _write(self) -> None:
        try:
            writer = Writer(
                self._config,
                self._ledger,
                self._outputs,
                self._reorder,
                tickets=self,
                committer=self._committer,
                progress=self._progress,
                turn=self._turn,
                read_back=self._read_back,
            )
            writer.run(self._supervisor.stopping.is_set)
        finally:
            self._committer.finish()

    # what the writer and the committer tell of files (write.Tickets)

    def file(self, ticket: int) -> DropFile:
        return self._files[ticket][0]

    def leave(self, ticket: int, count: int = 1) -> list[DropFile]:
        files = self._files[ticket]
        left = [files.popleft() for _ in range(count)]
        if not files:
            del self._files[ticket]
        before = self._handed - self._left
        self._left += count
        if before - count <= DECODING_FILES_MAX // 2 < before:
            self._watch.bell.ring()
        return left

    def held(self, count: int) -> None:
        changed, self._held = self._held != count, count
        if changed and self._once:
            self._watch.bell.ring()  # it may be all that is left

    def again(self, file: DropFile, why: NotYet) -> None:
        event(logging.DEBUG, f"not yet: {why.why}", source=file.source, file=file)
        self._returned += 1
        self._watch.again(file, why)

    def finished(self, files: Iterable[DropFile], *, released: bool) -> None:
        if released:
            self._watch.finished(files)
        else:
            self._stuck.update(files)
            self._watch.bell.ring()
