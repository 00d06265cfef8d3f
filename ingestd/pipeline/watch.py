"""Watches the drop directories. Events ring a bell; what is there is read from the directory.

No settled file is overlooked, whatever events were lost: a directory is read on each ring and
at least every ``scan`` seconds. No file is handed out twice at a time. Memory is bounded: of a
backlog only the next few thousand files are known.
"""

from __future__ import annotations

import heapq
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyConstants

from ingestd.config import Source
from ingestd.formats.registry import SUFFIXES
from ingestd.journal import event
from ingestd.model import DropFile, Fingerprint, NotYet, shown
from ingestd.pipeline.settle import wait_seconds

FILES_MAX = 20_000
"""Files known ahead, of all sources together; more of a backlog stays in the directories."""

# The kernel stamps files with the time of its last tick: those of this tick are still coming.
_REALTIME_COARSE = 5  # of <time.h>, which Python does not name
_TICK_SECONDS = 0.004
# A stamp further ahead than this is another clock's, and tells nothing.
_SKEW_NS = 10**9

_EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]


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


@dataclass(slots=True)
class _Hold:
    fingerprint: Fingerprint | None
    until: float  # monotonic
    soon: bool  # time alone settles it


def _in(seconds: float) -> float:
    return time.monotonic() + seconds


class SourceWatch:
    """One source's drop directory: its waiting files, in the source's order."""

    def __init__(self, source: Source, bell: Bell, files_max: int, scan_seconds: float) -> None:
        self.source = source
        self.waiting: deque[DropFile] = deque()
        self.out: set[str] = set()  # handed out and not finished
        self._matcher = source.matcher(SUFFIXES)
        self._bell = bell
        self.files_max = files_max
        self._scan_seconds = scan_seconds
        self._rung = True
        self._due = 0.0
        self._held: dict[str, _Hold] = {}
        self._news: deque[tuple[DropFile, _Hold]] = deque()
        self._watched: tuple[int, int] | None = None
        self._watch: ObservedWatch | None = None
        self._gone = False
        self._closed: set[str] = set()  # directories that may not be read, which was said
        self._known = source.after.kind == "keep"

    def ring(self) -> None:
        """Something happened in the directory."""
        self._rung = True
        self._bell.ring()

    def again(self, file: DropFile, why: NotYet) -> None:
        """``file`` was handed out too early. May be called from any thread."""
        self._news.append((file, _Hold(file.fingerprint, _in(why.retry_seconds), why.soon)))
        self.ring()

    def _take_news(self) -> None:
        while self._news:
            file, hold = self._news.popleft()
            self._held[file.name] = hold
            self.out.discard(file.name)

    def nothing_left(self) -> bool:
        """Whether the last look left no file, but those out, and such as time would not settle."""
        return not (self.waiting or any(h.soon for h in self._held.values()))

    def due_in(self) -> float:
        """Seconds until the directory wants to be read: not while enough of its files wait."""
        if len(self.waiting) > self.files_max // 4:
            return self._scan_seconds  # sooner: whoever takes a file rings
        return 0.0 if self._rung else max(0.0, self._due - time.monotonic())

    def scan(self, observer: BaseObserver | None, known: Callable[[DropFile], bool]) -> None:
        """Read the directory and queue its settled files. A missing directory is waited for."""
        self._rung = False
        self._due = time.monotonic() + self._scan_seconds
        try:
            self._follow_root(observer)
            self._queue(known)
        except OSError as error:
            if not self._gone:
                event(
                    logging.WARNING,
                    f"cannot read the drop directory, will try again: {error.strerror}",
                    source=self.source.name,
                    drop=self.source.drop,
                )
            self._gone = True
            return
        if self._gone:
            event(
                logging.INFO,
                "the drop directory is back",
                source=self.source.name,
                drop=self.source.drop,
            )
        self._gone = False

    def _follow_root(self, observer: BaseObserver | None) -> None:
        """A removed, renamed or remounted directory falls silent: watch the one that is there."""
        stat = self.source.drop.stat()
        root = (stat.st_dev, stat.st_ino)
        if observer is None or root == self._watched:
            return
        self._watched = root
        try:
            if self._watch is not None:
                observer.unschedule(self._watch)
            self._watch = observer.schedule(
                _Ringer(self.ring),
                str(self.source.drop),
                recursive=self.source.recursive,
                event_filter=_EVENTS,
            )
        except OSError as error:
            self._watch = None
            event(
                logging.WARNING,
                f"no events for the drop directory ({error.strerror}): it is only read every "
                f"{self._scan_seconds:g} s. Raise fs.inotify.max_user_watches or _instances",
                source=self.source.name,
            )

    def _queue(self, known: Callable[[DropFile], bool]) -> None:
        started, tick_ns = time.monotonic(), time.clock_gettime_ns(_REALTIME_COARSE)
        self._take_news()
        self._held = {n: h for n, h in self._held.items() if h.until > started}
        fresh = self._settled(started, tick_ns)
        if self._known:
            fresh = (item for item in fresh if not known(item[-1]))
        self.waiting = deque(item[-1] for item in heapq.nsmallest(self.files_max, fresh))
        if len(self.waiting) == self.files_max:
            self._rung = True  # there is more
        # Looking for held files again must not become all that we do.
        pause = max(_TICK_SECONDS, 5 * (time.monotonic() - started))
        soonest = min((h.until for h in self._held.values()), default=self._due)
        self._due = min(self._due, max(soonest, started + pause))

    def _settled(self, now: float, tick_ns: int) -> Iterator[tuple[object, object, str, DropFile]]:
        for path, name in walk(self.source.drop, self.source.recursive, "", self._say_closed):
            captures = self._matcher.match(name)
            if captures is None or name in self.out:
                continue
            try:
                stat = path.lstat()
            except FileNotFoundError:
                continue
            fingerprint = Fingerprint.of(stat)
            if tick_ns <= stat.st_ctime_ns < tick_ns + _SKEW_NS:
                # It may have come after others that this look at the directory missed.
                # A hold that asks for another look, and is over with it, however soon that comes:
                # else a file that came right after this one would go before it.
                self._held[name] = _Hold(None, now + _TICK_SECONDS, soon=True)
                continue
            held = self._held.get(name)
            if held and held.fingerprint == fingerprint and held.until > now:
                continue
            wait = wait_seconds(self.source.settle, path, stat)
            if wait != 0.0:
                if wait is not None:
                    self._held[name] = _Hold(fingerprint, now + wait, soon=True)
                continue
            file = DropFile(self.source.name, name, fingerprint)
            yield _order(self.source, stat, name, captures), natural(name), name, file

    def _say_closed(self, name: str, error: OSError) -> None:
        if name not in self._closed:
            self._closed.add(name)
            event(
                logging.WARNING,
                f"cannot read a directory in the drop directory: {error.strerror}",
                source=self.source.name,
                directory=shown(name),
            )


class Watch:
    """All drop directories; hands their files out, a turn each, to whoever decodes them."""

    def __init__(self, sources: dict[str, Source], scan_seconds: float, observe: bool) -> None:
        self.bell = Bell()
        files_max = max(64, FILES_MAX // len(sources))
        self.sources = {
            name: SourceWatch(source, self.bell, files_max, scan_seconds)
            for name, source in sources.items()
        }
        self._turns = deque(self.sources.values())
        self._observer: BaseObserver | None = Observer() if observe else None
        if self._observer is not None:
            self._observer.name = "watchdog"
            self._observer._emitter_class = _Emitter
            self._overflow = _OverflowHandler(self._ring_all)
            logging.getLogger("watchdog").addHandler(self._overflow)
            self._observer.start()

    def _ring_all(self) -> None:
        for watch in self.sources.values():
            watch.ring()

    def look(self, known: Callable[[DropFile], bool]) -> None:
        """Read the directories that want to be read, but for those with enough waiting."""
        for watch in self.sources.values():
            if watch.due_in() == 0:
                watch.scan(self._observer, known)

    def next(self) -> DropFile | None:
        """The next waiting file, a turn to each source; None: none waits."""
        for _ in range(len(self._turns)):
            watch = self._turns[0]
            self._turns.rotate(-1)
            if watch.waiting:
                file = watch.waiting.popleft()
                watch.out.add(file.name)
                return file
        return None

    def finished(self, file: DropFile) -> None:
        """``file`` was handed out and has left the drop directory."""
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

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            logging.getLogger("watchdog").removeHandler(self._overflow)


class _Emitter(InotifyEmitter):
    """Not told of what leaves: watchdog would hold back all that comes after it for 0.5 s, to pair
    the two halves of a move, and each file that is archived leaves."""

    def get_event_mask_from_filter(self) -> Any:
        return super().get_event_mask_from_filter() & ~InotifyConstants.IN_MOVED_FROM


class _Ringer(FileSystemEventHandler):
    """Does nothing but ring: an exception here would silence watchdog for good."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._ring()


class _OverflowHandler(logging.Handler):
    """watchdog tells of an overflow of its queue only in its log."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._ring = ring

    def emit(self, record: logging.LogRecord) -> None:
        self._ring()


def walk(
    root: Path,
    recursive: bool,
    below: str = "",
    closed: Callable[[str, OSError], None] = lambda name, error: None,
) -> Iterator[tuple[Path, str]]:
    """Everything in ``root`` by path and by name below it; symbolic links are not followed.

    ``closed`` is told of directories in ``root`` that may not be read; the others are.
    """
    deeper = []
    with os.scandir(root) as entries:
        for entry in entries:
            name = below + entry.name
            if recursive and entry.is_dir(follow_symlinks=False):
                deeper.append(name)
            else:
                yield Path(entry.path), name
    for name in deeper:
        try:
            yield from walk(root / name[len(below) :], recursive, name + "/", closed)
        except FileNotFoundError:
            continue  # it was removed since
        except PermissionError as error:
            closed(name, error)


_DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which ``b9`` comes before ``b10``."""
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(_DIGITS.split(name))]


def _order(
    source: Source, stat: os.stat_result, name: str, captures: Mapping[str, str | int]
) -> object:
    if source.order_capture is not None:
        return captures[source.order_capture]
    match source.order:
        case "arrival":
            # The kernel stamps a change of name or content alike; equal stamps go by name.
            return stat.st_ctime_ns
        case "name":
            return name
        case "mtime":
            return stat.st_mtime_ns
    raise AssertionError(source.order)
