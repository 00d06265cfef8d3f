"""The ledger: which drop file became which rows. What it calls committed survives a loss of power.

SQLite in WAL mode. A file's rows are written down as pending before their records are, so
that a crash between two datasets of one file can be rolled forward; only ``commit`` waits for
the disk. The ledger can be rebuilt from the outputs' own records (``adopt``), but for what
was skipped or quarantined.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ingestd.errors import BrokenInvariant, BusyWorld
from ingestd.layout import NAME_BYTES
from ingestd.ledger_schema import HAS_DIGEST, SCHEMA, UPGRADES, VERSION
from ingestd.lifecycle import State, check
from ingestd.model import DropFile, Entry, Fingerprint, Placement, RowRange
from ingestd.rowset import RowSet

P = ParamSpec("P")
T = TypeVar("T")

WAL_PAGES = 4000
"""So much is written (16 MiB) before it is brought from the log into the ledger. Digests are
random: each batch changes as many pages of their index as it has files, some again and again."""

# SQLite's own words where waiting helps.
_BUSY = ("full", "locked", "disk I/O", "readonly", "unable to open")


@dataclass(frozen=True, slots=True)
class Summary:
    """A source's committed files and rows, and its skipped files."""

    files: int = 0
    rows: int = 0
    recent_rows: int = 0
    newest: str | None = None
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A file that brings no rows, and why. ``digest`` is that of its bytes, if they were read."""

    file_id: int
    file: DropFile
    state: State
    reason: str
    digest: str = ""


def _asking(method: Callable[Concatenate[Ledger, P], T]) -> Callable[Concatenate[Ledger, P], T]:
    """A method that only reads: what SQLite says is told as when it writes."""

    @functools.wraps(method)
    def asking(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock, _world(self.path):
            return method(self, *args, **kwargs)

    return asking


class Ledger:
    """One connection to the ledger, which threads may share: each call is whole.

    ``read_only``: it is looked at as it is, of whatever earlier layout.

    :raises BusyWorld: the disk is full, or the ledger cannot be written for now.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        with _world(path):
            mode = "rwc"
            if read_only:
                # Where nobody writes, SQLite would want to make files beside it all the same.
                written = path.with_name(f"{path.name}-wal").exists()
                mode = "ro" if written else "ro&immutable=1"
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=30,
                check_same_thread=False,
            )
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise BrokenInvariant(
                    f"{path}: was written by a later ingestd (layout {version}). Use that one"
                )
            if not read_only:
                self._make_ready(version)
            elif not version:
                raise BusyWorld(f"{path}: the daemon is just making it. Ask again")

    def _make_ready(self, version: int) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        if version < VERSION:
            steps = [step for old, step in UPGRADES.items() if 0 < version <= old]
            self._db.executescript("".join(["BEGIN IMMEDIATE;", *steps, SCHEMA, "COMMIT;"]))

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock, _world(self.path):
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # What the flow asks

    @_asking
    def known(self, file: DropFile) -> State:
        """What became of exactly this file (same path and fingerprint); NEW if nothing yet."""
        f = file.fingerprint
        row = self._db.execute(
            "SELECT state FROM files WHERE source = ? AND name = ? AND size = ?"
            " AND mtime_ns = ? AND inode = ? ORDER BY id DESC LIMIT 1",
            (file.source, os.fsencode(file.name), f.size, f.mtime_ns, f.inode),
        ).fetchone()
        return State(row[0]) if row else State.NEW

    @_asking
    def seen(self, digests: Sequence[str]) -> set[str]:
        """Those of ``digests`` that some file's bytes had before; for many files at once."""
        rows = self._db.execute(
            "SELECT value FROM json_each(?) WHERE EXISTS"
            f" (SELECT 1 FROM files WHERE {HAS_DIGEST.format('value')})",
            (json.dumps(digests),),
        )
        return {row[0] for row in rows}

    @_asking
    def named(self, file: DropFile) -> bool:
        """Whether the source took a file of this name and size before."""
        name = os.fsencode(file.name)
        row = self._db.execute(
            "SELECT 1 FROM files WHERE source = ? AND name IN (?, ?) AND size IN (?, -1)"
            " AND state IN ('committed', 'pending') LIMIT 1",
            (file.source, name, name[-NAME_BYTES:], file.fingerprint.size),
        ).fetchone()
        return row is not None

    @_asking
    def holds(
        self, source: str, digest: str, target: tuple[str, Iterable[str]] | None = None
    ) -> str | None:
        """The name of a file of ``source`` with this content whose rows were taken, if any.

        ``target``: the output and datasets of which they have to be in one.
        """
        # The plus: never by the index of names, which would go through all of the source's files.
        query = (
            f"SELECT name FROM files WHERE {HAS_DIGEST.format('?1')} AND +source = ?2"
            " AND state IN ('committed', 'pending')"
        )
        values = [digest, source]
        if target is not None:
            query += (
                " AND EXISTS (SELECT 1 FROM placements p WHERE p.file_id = files.id"
                " AND p.output = ? AND p.dataset IN (SELECT value FROM json_each(?)))"
            )
            values += [target[0], json.dumps(list(target[1]))]
        row = self._db.execute(query + " LIMIT 1", values).fetchone()
        return os.fsdecode(row[0]) if row else None

    @_asking
    def took(self, file: DropFile, digest: str) -> bool:
        """Whether the rows of this very file are committed, whatever became of it since.

        Also under the name of another source, if it never left its drop directory; and if its
        rows were taken over from an output's own records, which know no fingerprint.
        """
        f, name = file.fingerprint, os.fsencode(file.name)
        row = self._db.execute(
            f"SELECT 1 FROM files WHERE {HAS_DIGEST.format('?1')}"
            " AND state = 'committed' AND mtime_ns = ?"
            " AND ((size = ? AND inode = ? AND (released = 0 OR (source = ? AND name = ?)))"
            " OR (inode = -1 AND source = ? AND name = ?)) LIMIT 1",
            (
                *(digest, f.mtime_ns, f.size, f.inode, file.source, name),
                *(file.source, name[-NAME_BYTES:]),
            ),
        ).fetchone()
        return row is not None

    @_asking
    def last_id(self) -> int:
        """The highest id given so far; 0: none."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM files").fetchone()[0])

    # What the flow writes

    def intend(self, entries: Iterable[Entry]) -> None:
        """Write the entries down as pending: their rows are flushed, their records come next."""
        with self._transaction() as db:
            _insert(db, entries, State.PENDING)

    def adopt(self, batches: Iterable[Iterable[Entry]]) -> None:
        """Take over an output's committed files from its own records, all of them or none.

        A file that feeds several datasets comes once for each of them.
        """
        # One transaction: of an output that is known in part, recovery would cut the rest.
        with self._transaction(durable=True) as db:
            for entries in batches:
                _insert(db, entries, State.COMMITTED, again=True)

    def commit(self, file_ids: Iterable[int], durable: bool = True) -> None:
        """Pending files are committed; when this returns, for ever (``durable``).

        :raises BrokenInvariant: one is not pending.
        """
        check(State.PENDING, State.COMMITTED)
        ids = list(file_ids)
        with self._transaction(durable=durable) as db:
            done = db.execute(
                "UPDATE files SET state = 'committed', at_ns = ?"
                " WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'",
                (time.time_ns(), json.dumps(ids)),
            ).rowcount
            if done != len(ids):
                raise BrokenInvariant(
                    f"{self.path}: of {len(ids)} files to commit only {done} were pending: "
                    "something else changed the ledger. Start again: recovery puts it right"
                )

    def withdraw_all(self) -> None:
        """All pending files are new again."""
        check(State.PENDING, State.NEW)
        with self._transaction(durable=True) as db:
            db.execute("DELETE FROM files WHERE released = 0 AND state = 'pending'")

    def withdraw(self, file_ids: Iterable[int]) -> None:
        """Pending files whose rows were not kept are new again."""
        check(State.PENDING, State.NEW)
        with self._transaction(durable=True) as db:
            db.executemany(
                "DELETE FROM files WHERE id = ? AND state = 'pending'", ((i,) for i in file_ids)
            )

    def settle(self, files: Iterable[Settled]) -> None:
        """Write down files that bring no rows (skipped, quarantined)."""
        now = time.time_ns()
        rows = []
        for settled in files:
            check(State.NEW, settled.state)
            name, f = os.fsencode(settled.file.name), settled.file.fingerprint
            rows.append(
                (
                    *(settled.file_id, settled.file.source, name, f.size, f.mtime_ns, f.inode),
                    *(settled.digest, settled.state, settled.reason, now),
                )
            )
        with self._transaction(durable=True) as db:
            db.executemany(
                "INSERT INTO files (id, source, name, size, mtime_ns, inode, digest, state,"
                " released, reason, at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
                rows,
            )

    def release(self, file_ids: Iterable[int]) -> None:
        """The drop files have left the drop directory, or may stay there for good."""
        with self._transaction() as db:
            db.execute(
                "UPDATE files SET released = 1 WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(file_ids)),),
            )

    def forget_quarantined(self, source: str, name: str) -> None:
        """A quarantined file goes back to its drop directory and is new again."""
        check(State.QUARANTINED, State.NEW)
        with self._transaction(durable=True) as db:
            db.execute(
                "DELETE FROM files WHERE source = ? AND name = ? AND state = 'quarantined'",
                (source, os.fsencode(name)),
            )

    # What people ask

    @_asking
    def summary(self, source: str, output: str | None, recent_seconds: float) -> Summary:
        """How ``source`` has done with ``output`` (None: with all) so far, and in the last
        ``recent_seconds``."""
        since = time.time_ns() - int(recent_seconds * 1e9)
        totals = dict(
            self._db.execute(
                "SELECT state, count(*) FROM files WHERE source = ? GROUP BY state", (source,)
            )
        )
        rows, recent = self._db.execute(
            "SELECT coalesce(sum(p.rows), 0), coalesce(sum(p.rows) FILTER (WHERE f.at_ns > ?), 0)"
            " FROM files f JOIN placements p ON p.file_id = f.id"
            " WHERE f.source = ? AND f.state = 'committed' AND p.output = coalesce(?, p.output)",
            (since, source, output),
        ).fetchone()
        newest = self._db.execute(
            "SELECT name FROM files WHERE source = ? AND state = 'committed'"
            " ORDER BY id DESC LIMIT 1",
            (source,),
        ).fetchone()
        return Summary(
            totals.get("committed", 0),
            rows,
            recent,
            os.fsdecode(newest[0]) if newest else None,
            totals.get("skipped", 0),
        )

    # What recovery asks

    @_asking
    def unreleased(self) -> list[tuple[int, DropFile, State, str]]:
        """Settled files that may still lie in their drop directory: id, file, state, reason."""
        rows = self._db.execute(
            "SELECT id, source, name, size, mtime_ns, inode, state, coalesce(reason, '')"
            " FROM files WHERE released = 0 AND state != 'pending' ORDER BY id"
        )
        return [
            (r[0], DropFile(r[1], os.fsdecode(r[2]), Fingerprint(*r[3:6])), State(r[6]), r[7])
            for r in rows
        ]

    @_asking
    def pending_outputs(self) -> list[str]:
        """Outputs with pending files."""
        rows = self._db.execute(
            "SELECT DISTINCT p.output FROM files f JOIN placements p ON p.file_id = f.id"
            " WHERE f.released = 0 AND f.state = 'pending'"
        )
        return [r[0] for r in rows]

    @_asking
    def pending(self, output: str) -> list[Entry]:
        """Files whose commit was cut short, oldest first."""
        rows = self._db.execute(
            "SELECT DISTINCT f.id, f.source, f.name, f.size, f.mtime_ns, f.inode, f.digest,"
            " f.captures FROM files f JOIN placements p ON p.file_id = f.id"
            " WHERE f.released = 0 AND f.state = 'pending' AND p.output = ? ORDER BY f.id",
            (output,),
        ).fetchall()
        return [
            Entry(
                r[0],
                DropFile(r[1], os.fsdecode(r[2]), Fingerprint(*r[3:6])),
                r[6],
                output,
                self._placements(output, r[0]),
                r[7],
            )
            for r in rows
        ]

    def _placements(self, output: str, file_id: int) -> tuple[Placement, ...]:
        rows = self._db.execute(
            "SELECT dataset, first_row, rows, digest FROM placements"
            " WHERE file_id = ? AND output = ? ORDER BY dataset",
            (file_id, output),
        )
        return tuple(Placement(r[0], RowRange(r[1], r[1] + r[2]), r[3]) for r in rows)

    @_asking
    def placed(self, output: str, dataset: str) -> RowSet:
        """The rows of ``dataset`` that committed and pending files brought."""
        return RowSet(
            self._db.execute(
                "SELECT p.first_row, p.first_row + p.rows FROM placements p"
                " JOIN files f ON f.id = p.file_id WHERE p.output = ? AND p.dataset = ?"
                " ORDER BY p.first_row",
                (output, dataset),
            )
        )

    @_asking
    def fed_by(self, source: str) -> dict[str, list[str]]:
        """The datasets that files of ``source`` brought rows to, by output."""
        fed: dict[str, list[str]] = {}
        for output, dataset in self._db.execute(
            "SELECT DISTINCT p.output, p.dataset FROM placements p"
            " JOIN files f ON f.id = p.file_id WHERE f.source = ? ORDER BY 1, 2",
            (source,),
        ):
            fed.setdefault(output, []).append(dataset)
        return fed

    @_asking
    def ends(self, output: str) -> dict[str, tuple[int, int]]:
        """For each dataset of ``output``: the committed end, and the id of its last file."""
        ends = {}
        dataset = ""
        # From one dataset to the next by the index: there may be millions of placements.
        while dataset := self._db.execute(
            "SELECT coalesce(min(dataset), '') FROM placements WHERE output = ? AND dataset > ?",
            (output, dataset),
        ).fetchone()[0]:
            row = self._db.execute(
                "SELECT p.first_row + p.rows, p.file_id FROM placements p"
                " JOIN files f ON f.id = p.file_id WHERE p.output = ? AND p.dataset = ?"
                " AND f.state = 'committed' ORDER BY p.file_id DESC LIMIT 1",
                (output, dataset),
            ).fetchone()
            ends[dataset] = (row[0], row[1]) if row else (0, 0)
        return ends


def _insert(
    db: sqlite3.Connection, entries: Iterable[Entry], state: State, *, again: bool = False
) -> None:
    check(State.NEW, state)
    now = time.time_ns()
    files, placements = [], []
    for e in entries:
        file = e.file
        files.append(
            (
                *(e.file_id, file.source, file.raw_name, *file.fingerprint, e.digest),
                *(state, again, now, e.captures),
            )
        )
        placements += [
            (e.output, p.dataset, e.file_id, p.rows.start, len(p.rows), p.digest)
            for p in e.placements
        ]
    db.executemany(
        f"INSERT {'OR IGNORE' if again else ''} INTO files (id, source, name, size,"
        " mtime_ns, inode, digest, state, released, at_ns, captures)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        files,
    )
    db.executemany("INSERT INTO placements VALUES (?, ?, ?, ?, ?, ?)", placements)


@contextlib.contextmanager
def _world(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if any(word in str(error) for word in _BUSY):
            raise BusyWorld(f"{path}: {error}. Make room, or make it writable") from error
        raise BrokenInvariant(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise BrokenInvariant(
            f"{path}: {error}. Move it away: it is rebuilt from the outputs' own records"
        ) from error
