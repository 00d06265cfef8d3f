"""One drop directory, read again and again: its settled files, in the source's order.

No settled file is overlooked, whatever events were lost. Memory is bounded: of a backlog only
so many files are known.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from sys import getsizeof

from ingestd.config import Source
from ingestd.formats.registry import suffixes
from ingestd.journal import event
from ingestd.model import DropFile, Fingerprint, NotYet, shown
from ingestd.pipeline.bundle import SMALL_BYTES
from ingestd.pipeline.line import file_at, places
from ingestd.pipeline.reorder import Closed
from ingestd.pipeline.settle import wait_seconds

# The kernel stamps files with the time of its last tick: those of this tick are still coming.
_REALTIME_COARSE = 5  # of <time.h>, which Python does not name
_TICK_SECONDS = 0.004
# A stamp further ahead than this is another clock's, and tells nothing.
_SKEW_NS = 10**9


_ENTRIES_AT_ONCE = 256
_YIELD_SECONDS = 50e-6
"""Of a large directory so many entries are looked at before another thread has its turn, for which
a lock has to be left alone for a moment."""

ENOUGH_FILES = 15_000
"""While more of a source's files wait, its directory is read again only now and then: after
``scan`` seconds, or ``_READING_SHARE`` times what a reading takes if that is longer."""
_READING_SHARE = 10

PLACE_BYTES = 200
"""What a waiting file's place takes, if the names are not long. See ``line``."""

TASK_FILES_MAX = 512
TASK_BYTES_MAX = 1 << 20
"""So many small files, of so many bytes in all, are decoded together."""

SAY_SECONDS = 5.0
"""A file that has to be left alone for so long is worth a line of log, once."""


Root = tuple[int, int]
"""Which directory is the drop directory now: its device and inode."""


@dataclass(slots=True)
class _Hold:
    fingerprint: Fingerprint | None
    until: float  # monotonic
    soon: bool  # time alone settles it


def _root(drop: Path) -> Root:
    stat = drop.stat()
    return stat.st_dev, stat.st_ino


def _in(seconds: float) -> float:
    return time.monotonic() + seconds


class SourceScan:
    """One source's drop directory: its waiting files, in the source's order.

    ``ring`` is called when it wants to be read; ``follow`` before each reading, which ends early by
    ``Closed`` once ``stopping``. What a source of ``before`` takes is left to it.
    """

    def __init__(
        self,
        source: Source,
        ring: Callable[[], None],
        files_max: int,
        scan_seconds: float,
        turn: threading.Lock,
        follow: Callable[[Root], None] = lambda root: None,
        stopping: Callable[[], bool] = lambda: False,
        before: Iterable[Source] = (),
    ) -> None:
        self.source = source
        self._turn = turn
        self._line: list[str] = []  # the places of the files that wait, the first one last
        self._fresh_until = 0.0
        self._root: Root | None = None  # the directory that was read
        self.out: set[str] = set()  # handed out and not finished
        self._matcher = source.matcher(suffixes(source.format))
        self._ring_bell = ring
        self._follow = follow
        self._stopping = stopping
        self._taken = [taken for other in before if (taken := taken_by(other, source))]
        self.files_max = files_max
        self._scan_seconds = scan_seconds
        self._rung = True
        self._due = 0.0
        self._held: dict[str, _Hold] = {}
        self._news: deque[tuple[DropFile, _Hold]] = deque()
        self._gone = False
        self._told: set[str] = set()  # files out of reach, which was said
        self._closed: set[str] = set()  # directories that may not be read, which was said
        self._known = source.after.kind == "keep"
        self._place = places(source)

    @property
    def waiting(self) -> int:
        """How many files wait to be taken."""
        return len(self._line)

    def ring(self) -> None:
        """Something happened in the directory."""
        self._rung = True
        self._ring_bell()

    def take(self) -> tuple[DropFile, ...]:
        """Hand out the first waiting file, or as many small ones as make one task."""
        if not self._still_there():
            # It is away: else the files after those that are looked for now would go before them.
            self._line.clear()
            self.ring()
        files: list[DropFile] = []
        nbytes = 0
        while self._line and len(files) < TASK_FILES_MAX:
            file = file_at(self._line[-1], self.source.name)
            if file.name in self.out:  # renamed away and back: one reading saw it twice
                self._line.pop()
                continue
            size = file.fingerprint.size
            nbytes += size
            if files and (size > SMALL_BYTES or nbytes > TASK_BYTES_MAX):
                break
            self._line.pop()
            self.out.add(file.name)
            files.append(file)
            if size > SMALL_BYTES:
                break
        return tuple(files)

    def _still_there(self) -> bool:
        try:
            return _root(self.source.drop) == self._root
        except OSError:
            return False

    def again(self, file: DropFile, why: NotYet) -> None:
        """``file`` was handed out too early. May be called from any thread."""
        if why.retry_seconds >= SAY_SECONDS and file.name not in self._told:
            self._told.add(file.name)
            event(logging.WARNING, f"{why.why}: will try again", source=file.source, file=file)
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

    def unread(self) -> list[str]:
        """The directories that could not be read, the last time or ever."""
        if self._gone:
            return [str(self.source.drop)]
        return [shown(str(self.source.drop / name)) for name in sorted(self._closed)]

    def due_in(self) -> float:
        """Seconds until the directory wants to be read: seldom while enough of its files wait."""
        now = time.monotonic()
        if self.waiting > min(ENOUGH_FILES, self.files_max // 4):
            return max(0.0, self._fresh_until - now)  # sooner: whoever takes a file rings
        return 0.0 if self._rung else max(0.0, self._due - now)

    def scan(self, known: Callable[[DropFile], bool]) -> None:
        """Read the directory and queue its settled files. A missing directory is waited for.

        :raises Closed: it is to stop.
        """
        self._rung = False
        self._due = time.monotonic() + self._scan_seconds
        try:
            self._root = _root(self.source.drop)
            self._follow(self._root)
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

    def _queue(self, known: Callable[[DropFile], bool]) -> None:
        started, tick_ns = time.monotonic(), time.clock_gettime_ns(_REALTIME_COARSE)
        self._take_news()
        self._held = {n: h for n, h in self._held.items() if h.until > started}
        self._line = self._first(known, started, tick_ns)
        # Looking for held files again must not become all that we do.
        took = time.monotonic() - started
        pause = max(_TICK_SECONDS, 5 * took)
        self._fresh_until = started + max(self._scan_seconds, _READING_SHARE * took)
        soonest = min((h.until for h in self._held.values()), default=self._due)
        self._due = min(self._due, max(soonest, started + pause))

    def _first(self, known: Callable[[DropFile], bool], now: float, tick_ns: int) -> list[str]:
        """The places of those that come first of all settled files, as many as may be known."""
        first: list[str] = []
        nbytes = 0
        entries = walk(self.source.drop, self.source.recursive, self._say_closed)
        more = True
        while more:
            if self._stopping():
                raise Closed
            with self._turn:
                some = list(islice(entries, _ENTRIES_AT_ONCE))
                settled = self._settled(some, now, tick_ns)
                if self._known:
                    name = self.source.name
                    settled = (place for place in settled if not known(file_at(place, name)))
                first += (new := list(settled))
                nbytes += sum(map(getsizeof, new))
                more = len(some) == _ENTRIES_AT_ONCE
                if not more or max(len(first), nbytes // PLACE_BYTES) >= self.files_max * 5 // 4:
                    nbytes = self._cut(first)
            # Who waits for the turn would not get it from a lock that is taken again at once.
            time.sleep(_YIELD_SECONDS)
        first.reverse()
        return first

    def _cut(self, first: list[str]) -> int:
        """Sort the places, and leave those that may be known; how many bytes they take."""
        first.sort()
        nbytes = [0, *accumulate(map(getsizeof, first))]
        fit = bisect_right(nbytes, self.files_max * PLACE_BYTES) - 1
        kept = max(1, min(fit, self.files_max))
        if kept < len(first):
            self._rung = True  # there is more
            del first[kept:]
        return nbytes[len(first)]

    def _settled(
        self, entries: Iterable[tuple[os.DirEntry[str], str]], now: float, tick_ns: int
    ) -> Iterator[str]:
        source, out, taken = self.source, self.out, self._taken
        for entry, name in entries:
            captures = self._matcher.match(name)
            if captures is None or name in out or (taken and any(t(name) for t in taken)):
                continue
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            arrived_ns = stat.st_ctime_ns
            # Of the clock of this moment: a reading may take longer than what tells clocks apart.
            if tick_ns <= arrived_ns < time.clock_gettime_ns(_REALTIME_COARSE) + _SKEW_NS:
                # It may have come after others that this look at the directory missed.
                # A hold that asks for another look, and is over with it, however soon that comes:
                # else a file that came right after this one would go before it.
                self._held[name] = _Hold(None, now + _TICK_SECONDS, soon=True)
                continue
            held = self._held.get(name)
            if held and held.until > now and held.fingerprint == Fingerprint.of(stat):
                continue
            wait = wait_seconds(source.settle, entry.path, stat)
            if wait != 0.0:
                if wait is not None:
                    self._held[name] = _Hold(Fingerprint.of(stat), now + wait, soon=True)
                continue
            yield self._place(stat, name, captures)

    def _say_closed(self, name: str, error: OSError) -> None:
        if name not in self._closed:
            self._closed.add(name)
            event(
                logging.WARNING,
                f"cannot read a directory in the drop directory: {error.strerror}",
                source=self.source.name,
                directory=shown(name),
            )


def walk(
    root: Path,
    recursive: bool,
    closed: Callable[[str, OSError], None] = lambda name, error: None,
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Everything in ``root``, and its name below it; symbolic links are not followed.

    ``closed`` is told of directories below ``root`` that cannot be read; the others are.

    :raises OSError: ``root`` cannot be read.
    """
    directories = [""]
    while directories:
        below = directories.pop()
        try:
            with os.scandir(root / below) as entries:
                for entry in entries:
                    if recursive and entry.is_dir(follow_symlinks=False):
                        directories.append(f"{below}{entry.name}/")
                    else:
                        yield entry, below + entry.name
        except FileNotFoundError:
            if not below:
                raise  # else it was removed since
        except OSError as error:
            if not below:
                raise
            closed(below.rstrip("/"), error)


def taken_by(other: Source, source: Source) -> Callable[[str], bool] | None:
    """Whether ``other`` takes a file of ``source``, by its name; None: never."""
    ours, theirs = f"{source.drop.absolute()}/", f"{other.drop.absolute()}/"
    if not (ours.startswith(theirs) or theirs.startswith(ours)):
        return None
    matcher = other.matcher(suffixes(other.format))

    def taken(name: str) -> bool:
        path = ours + name
        rest = path[len(theirs) :]
        return (
            path.startswith(theirs)
            and (other.recursive or "/" not in rest)
            and matcher.match(rest) is not None
        )

    return taken
