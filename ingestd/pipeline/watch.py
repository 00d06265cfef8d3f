"""Watches the drop directories. Events only ring a bell: what is there is read from the directory.

A directory is read on each ring, and at least every ``scan`` seconds; ``scan`` tells how. No file
is handed out twice at a time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ingestd.config import Source
from ingestd.journal import event
from ingestd.model import DropFile, NotYet
from ingestd.pipeline.scan import Root, SourceScan

if TYPE_CHECKING:
    from watchdog.observers.api import ObservedWatch

    from ingestd.pipeline.events import Events

KNOWN_FILES_MAX = 500_000
"""Files known ahead, of all sources together, or fewer if their names are long (``PLACE_BYTES``);
more of a backlog stays in the directories."""

_Key = tuple[Path, bool]
"""Sources of one drop directory, read to the same depth, share a watch."""


class Bell:
    """Rung when there may be something to do; waiting for it costs nothing."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        """Somebody should look."""
        self._rung.set()

    def wait(self, timeout: float) -> None:
        """Wait for a ring, or ``timeout`` seconds."""
        self._rung.wait(timeout)
        self._rung.clear()


class Watch:
    """All drop directories; hands their files out, a turn each, to whoever decodes them."""

    def __init__(
        self,
        sources: dict[str, Source],
        scan_seconds: float,
        observe: bool,
        turn: threading.Lock,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.bell = Bell()
        self._scan_seconds = scan_seconds
        files_max = max(64, KNOWN_FILES_MAX // len(sources))
        self.sources = {
            name: SourceScan(
                source,
                self.bell.ring,
                files_max,
                scan_seconds,
                turn,
                partial(self._follow, source),
                stopping,
                before=list(sources.values())[:number],
            )
            for number, (name, source) in enumerate(sources.items())
        }
        self._turns = deque(self.sources.values())
        self._followed: dict[_Key, tuple[Root, ObservedWatch | None]] = {}
        self._events: Events | None = None
        if observe:
            from ingestd.pipeline.events import Events  # late: --once does without

            self._events = Events(self._ring_all)

    def _follow(self, source: Source, root: Root) -> None:
        """A removed, renamed or remounted directory falls silent: watch the one that is there."""
        key = (source.drop.absolute(), source.recursive)
        followed, watch = self._followed.get(key, (None, None))
        if self._events is None or root == followed:
            return
        self._followed[key] = (root, None)
        try:
            if watch is not None:
                self._events.unfollow(watch)
            ring = partial(self._ring_all, key)
            watch = self._events.follow(source.drop, source.recursive, ring)
            self._followed[key] = (root, watch)
        except OSError as error:
            event(
                logging.WARNING,
                f"no events for the drop directory ({error.strerror}): it is only read every "
                f"{self._scan_seconds:g} s. Raise fs.inotify.max_user_watches or _instances",
                source=source.name,
            )

    def _ring_all(self, key: _Key | None = None) -> None:
        """Ring for every source, or for those that share a watch."""
        for scan in self.sources.values():
            if key in (None, (scan.source.drop.absolute(), scan.source.recursive)):
                scan.ring()

    def look(self, known: Callable[[DropFile], bool]) -> None:
        """Read the directories that want to be read, but for those with enough waiting."""
        for watch in self.sources.values():
            if watch.due_in() == 0:
                watch.scan(known)

    def next(self) -> tuple[DropFile, ...]:
        """The next waiting file, or some small ones; a turn to each source. Empty: none waits."""
        for _ in range(len(self._turns)):
            watch = self._turns[0]
            self._turns.rotate(-1)
            if watch.waiting:
                return watch.take()
        return ()

    def finished(self, files: Iterable[DropFile]) -> None:
        """``files`` were handed out and have left the drop directory."""
        for file in files:
            self.sources[file.source].out.discard(file.name)
        self.bell.ring()

    def again(self, file: DropFile, why: NotYet) -> None:
        """``file`` was handed out too early: look at it again later."""
        self.sources[file.source].again(file, why)

    def due_in(self) -> float:
        """Seconds until some directory wants to be read."""
        return min(watch.due_in() for watch in self.sources.values())

    def nothing_left(self, stuck: int = 0) -> bool:
        """Whether the last look left no file that time alone would settle, but ``stuck`` ones."""
        out = sum(len(watch.out) for watch in self.sources.values())
        return out <= stuck and all(watch.nothing_left() for watch in self.sources.values())

    def unread(self) -> list[str]:
        """Directories that could not be read."""
        return [path for watch in self.sources.values() for path in watch.unread()]

    def close(self) -> None:
        """Stop watching."""
        if self._events is not None:
            self._events.close()
