"""Hands files in and watches the ledger until their rows are durable.

It tells of each file in the order given, and of none as durable that the ledger does not.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestd import locks
from ingestd.config import Config, load
from ingestd.errors import BusyWorld, IngestdError
from ingestd.formats.registry import check_formats
from ingestd.handin import place
from ingestd.handin.offers import Offer, offers
from ingestd.handin.outcome import NotDurable, Outcome, outcome, took_before
from ingestd.handin.view import LedgerView
from ingestd.ledger_schema import LEDGER
from ingestd.model import Fingerprint, shown

POLL_SECONDS = (0.0005, 0.02)
POLL_SHARE = 0.01
"""How often the ledger is asked whether it has changed: so that little is added to the time that
has passed anyhow, within bounds."""

LOOK_SECONDS = 0.1
"""How often it is looked whether the daemon lives, and the files still lie there."""

START_SECONDS = 10.0
"""A daemon that has its lock makes its ledger and its drop directories within so long."""

NAME_SECONDS = 10.0
"""So long a file waits for another of its name to leave the drop directory."""

NAMED_MAX = 10
"""So many files are named in an error, the others counted."""

NO_FILE = Fingerprint(-1, 0, -1)


def put(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    source: str | None = None,
    config: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    *,
    move: bool = False,
    name: str | None = None,
) -> list[Outcome]:
    """Hand files in to the daemon, and return when the rows of all are durable, or refused.

    Give the same files again after any failure: no row comes twice. ``outcome.durable`` is to be
    looked at for each: a file that the daemon cannot take is ``quarantined``.

    :param files: a file or several; they stay where they are, and copies go to the daemon.
    :param source: whose drop directory they go to; may be left out if there is only one.
    :param config: the daemon's config file, as ``-c``; its relative paths start at the working
        directory, so this has to be the daemon's.
    :param timeout: seconds to wait at the most; None: as long as the daemon lives.
    :param move: take the files themselves, not copies.
    :param name: the name to go by, of one file; may hold directories if the source is recursive.
    :raises UsageError: the source would not take such a file; nothing was handed in.
    :raises NotDurable: no daemon runs, it ended, the time is up, or there is no room; the
        exception has what became of which file.
    :raises ConfigError: the config is wrong.
    """
    paths = [Path(files)] if isinstance(files, (str, os.PathLike)) else [Path(f) for f in files]
    loaded = load(None if config is None else Path(config), check_formats)
    return list(Handing(loaded, offers(loaded, source, paths, name), move, timeout).outcomes())


@dataclass(slots=True)
class _Waiting:
    """A file in the drop directory; what becomes of it comes ``after_id``, or is known."""

    offer: Offer
    known: Fingerprint
    after_id: int = 0
    outcome: Outcome | None = None

    def look(self, ledger: LedgerView) -> Outcome | None:
        """What became of it, if anything yet."""
        return self.outcome or outcome(ledger, self.offer, self.known, self.after_id)


class Handing:
    """One call: the files still to be handed in, those that wait, and the outcomes so far."""

    def __init__(
        self, config: Config, offered: Sequence[Offer], move: bool, timeout: float | None
    ) -> None:
        self._config = config
        self._move = move
        self._deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        self._left = deque(offered)
        self._waiting: deque[_Waiting] = deque()
        self._known: list[Outcome] = []
        self._version = -1
        self._busy_at = self._look_due = 0.0

    def outcomes(self) -> Iterator[Outcome]:
        """What becomes of each file, in order, as soon as it is known.

        :raises NotDurable: the others came to no end.
        """
        try:
            self._look_for_daemon()
            with contextlib.closing(self._opened()) as ledger:
                over = yield from self._handed_in(ledger)
        except BusyWorld as error:
            over = str(error)
        if over:
            raise self.not_durable(over)

    def _handed_in(self, ledger: LedgerView) -> Generator[Outcome, None, str]:
        """Gives at the end what kept the rest from theirs; nothing if there is no rest."""
        over = ""
        try:
            while self._left:
                self._hand_in(ledger, self._left[0])
                yield from self._ended(ledger)
        except (OSError, IngestdError) as error:
            over = _worded(error)
        try:
            while self._waiting:
                self._wait(ledger)
                yield from self._ended(ledger)
        except BusyWorld as error:
            over = over or str(error)
            # Also of those behind one that takes long.
            yield from self._ended(ledger, all_of_them=True)
        return over if self._left or self._waiting else ""

    # Into the drop directory

    def _hand_in(self, ledger: LedgerView, offer: Offer) -> None:
        """The file lies in the drop directory, or its rows are in the output already."""
        until = min(time.monotonic() + NAME_SECONDS, self._deadline)
        while (waiting := self._brought(ledger, offer)) is None:
            if time.monotonic() >= until:
                raise BusyWorld(
                    f"{shown(str(offer.target))}: another file of this name waits there. "
                    "Put this one again when that is taken, or under another name (--name)"
                )
            self._pause(ledger)
        self._left.popleft()
        self._waiting.append(waiting)
        self._busy_at = time.monotonic()
        if self._move and not place.is_one_path(offer.file, offer.target):
            place.remove(offer.file, offer.target if waiting.outcome is None else None)

    def _brought(self, ledger: LedgerView, offer: Offer) -> _Waiting | None:
        """None: another file has its name there."""
        before = took_before(ledger, offer)
        if before is not None:
            return _Waiting(offer, NO_FILE, outcome=before)
        after_id = 0
        lies = place.lying(offer.file, offer.target)
        if lies is None:
            after_id = ledger.last_id()
            try:
                lies = place.bring(offer.file, offer.target, link=self._move)
            except FileExistsError:
                return None
        place.mark(offer.source, offer.target)
        return _Waiting(offer, lies, after_id)

    # Until they are durable

    def _ended(self, ledger: LedgerView, *, all_of_them: bool = False) -> Iterator[Outcome]:
        """The outcomes that are known now: of those at the front, or ``all_of_them``."""
        still: list[_Waiting] = []
        while self._waiting and (all_of_them or not still):
            waiting = self._waiting.popleft()
            found = waiting.look(ledger)
            if found is None:
                still.append(waiting)
                continue
            self._known.append(found)
            self._busy_at = time.monotonic()
            yield found
        self._waiting.extendleft(reversed(still))

    def _wait(self, ledger: LedgerView) -> None:
        """Until the ledger has changed.

        :raises BusyWorld: there is nothing to wait for.
        """
        while (version := ledger.version()) == self._version:
            self._pause(ledger)
        self._version = version

    def _pause(self, ledger: LedgerView) -> None:
        now = time.monotonic()
        if now >= self._deadline:
            raise BusyWorld("the time is up")
        if now >= self._look_due:
            self._look_due = now + LOOK_SECONDS
            self._look_about(ledger)
        shortest, longest = POLL_SECONDS
        pause = min(longest, max(shortest, (now - self._busy_at) * POLL_SHARE))
        time.sleep(min(pause, self._deadline - now))

    def _look_about(self, ledger: LedgerView) -> None:
        self._look_for_daemon()
        if ledger.replaced:
            raise BusyWorld(f"{ledger.path}: was replaced meanwhile")
        if not self._waiting:
            return
        first = self._waiting[0]
        # In this order: the daemon lets a file go only when the ledger knows it.
        if not place.lies(first.offer.target, first.known) and first.look(ledger) is None:
            self._left.appendleft(self._waiting.popleft().offer)
            raise BusyWorld(
                f"{shown(str(first.offer.target))}: was changed or taken away, not by the daemon"
            )

    def _look_for_daemon(self) -> None:
        lock = self._config.state / "lock"
        if not locks.held(lock):
            raise BusyWorld(
                f"no daemon runs: nobody holds {shown(str(lock.absolute()))}. Start it with "
                "'ingestd run', with this config and in this directory"
            )

    def _opened(self) -> LedgerView:
        """The ledger, of a daemon that may have begun a moment ago."""
        until = min(self._deadline, time.monotonic() + START_SECONDS)
        while True:
            try:
                _refuse_missing({offer.source.drop for offer in self._left})
                return LedgerView(self._config.state / LEDGER)
            except BusyWorld:
                if time.monotonic() >= until:
                    raise
            self._look_for_daemon()
            time.sleep(POLL_SECONDS[1])

    def not_durable(self, why: str) -> NotDurable:
        """What is not known to be durable, in words."""
        waiting = [w.offer.file for w in self._waiting]
        # Interrupted, the one in hand may have come to lie there.
        if self._left and place.lying(self._left[0].file, self._left[0].target):
            waiting.append(self._left.popleft().file)
        left = [offer.file for offer in self._left]
        lines = [why]
        if waiting:
            lines.append(
                f"in the drop directory, not yet committed, will be taken: {_named(waiting)}. "
                "Put them again to wait on: no row comes twice"
            )
        if left:
            lines.append(f"not handed in: {_named(left)}")
        return NotDurable("\n".join(lines), self._known, waiting, left)


def _refuse_missing(drops: Iterable[Path]) -> None:
    for drop in drops:
        if not drop.is_dir():
            raise BusyWorld(f"{shown(str(drop))}: the drop directory is not there")


def _worded(error: OSError | IngestdError) -> str:
    if isinstance(error, OSError):
        paths = " -> ".join(shown(str(f)) for f in (error.filename, error.filename2) if f)
        return f"{paths}: {error.strerror}"
    return str(error)


def _named(files: Sequence[Path]) -> str:
    more = f" and {len(files) - NAMED_MAX} more" if len(files) > NAMED_MAX else ""
    return ", ".join(shown(str(file)) for file in files[:NAMED_MAX]) + more
