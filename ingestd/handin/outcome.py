"""What became of a file that was handed in. Only what the ledger says is told as durable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ingestd.errors import BadFile, BusyWorld
from ingestd.handin.offers import Offer
from ingestd.handin.place import open_original
from ingestd.handin.view import LedgerView
from ingestd.lifecycle import State
from ingestd.model import Fingerprint, Placement, shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one file: ``committed``, ``skipped`` or ``quarantined``.

    ``file`` is the path as it was given, ``name`` the file's name below the drop directory.
    ``output`` and ``placements`` say where its rows stand; of a skipped file, where those of the
    same content do that came first (nowhere, if it brings no rows). ``reason`` says why a file
    was skipped or quarantined.
    """

    file: Path
    source: str
    name: str
    state: State
    output: str | None = None
    placements: tuple[Placement, ...] = ()
    reason: str | None = None

    @property
    def durable(self) -> bool:
        """Whether all the rows of the file are in the output, for ever."""
        return self.state in (State.COMMITTED, State.SKIPPED)


class NotDurable(BusyWorld):
    """Not all files came to their end: the time is up, the daemon ended, there is no room.

    ``outcomes`` are those that did. ``waiting`` lie in the drop directory, and will be taken;
    ``left`` were not handed in. Doing all of it again is right: no row comes twice.
    """

    def __init__(
        self, why: str, outcomes: Sequence[Outcome], waiting: Sequence[Path], left: Sequence[Path]
    ) -> None:
        super().__init__(why)
        self.outcomes = tuple(outcomes)
        self.waiting = tuple(waiting)
        self.left = tuple(left)


def outcome(ledger: LedgerView, offer: Offer, known: Fingerprint, after_id: int) -> Outcome | None:
    """What became of a file since ``after_id``; ``known`` is what the daemon knows it by."""
    end = ledger.end(offer.source.name, offer.name, known, after_id)
    if end is None:
        return None
    if end.state is State.COMMITTED:
        return _outcome(offer, end.state, *ledger.rows(end.file_id))
    if end.state is State.QUARANTINED:
        return _outcome(offer, end.state, reason=_read(end.reason))
    return _outcome(
        offer,
        end.state,
        *ledger.rows(_first_with(ledger, offer, end.digest, end.reason)),
        end.reason,
    )


def took_before(ledger: LedgerView, offer: Offer) -> Outcome | None:
    """The outcome for a file that was taken already: same name, size, time and content.

    The daemon would not take it for the same if its drop file had another inode, and duplicates
    are appended.
    """
    stat = offer.file.lstat()
    taken = ledger.committed(offer.source.name, offer.name, stat.st_size, stat.st_mtime_ns)
    if not taken:
        return None
    with open_original(offer.file) as file:
        file_id = taken.get(hashlib.file_digest(file, xxhash.xxh3_128).hexdigest())
    if file_id is None:
        return None
    return _outcome(offer, State.SKIPPED, *ledger.rows(file_id), "this very file was taken before")


def _outcome(
    offer: Offer,
    state: State,
    output: str | None = None,
    placements: tuple[Placement, ...] = (),
    reason: str | None = None,
) -> Outcome:
    return Outcome(offer.file, offer.source.name, offer.name, state, output, placements, reason)


def _first_with(ledger: LedgerView, offer: Offer, digest: str, reason: str) -> int:
    """The id of the file that brought the content of a skipped one; 0: none.

    Where outputs have captures several did: then it is the one that the reason names.
    """
    brought = ledger.brought(digest, offer.source.name)
    named = (i for i, name in brought if reason.endswith((f" {name}", f" {shown(name)}")))
    return next(named, brought[0][0] if brought else 0)


def _read(reason: str) -> str:
    """The three lines of a quarantined file's reason as one."""
    lines = json.loads(reason)
    return str(BadFile(lines["expected"], lines["found"], lines["do"]))
