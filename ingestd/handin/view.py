"""The ledger as others see it, while the daemon writes it: read only, and never in its way."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ingestd.errors import BusyWorld
from ingestd.layout import NAME_BYTES
from ingestd.ledger_schema import HAS_DIGEST, VERSION
from ingestd.lifecycle import State
from ingestd.model import Fingerprint, Placement, RowRange

Rows = tuple[str | None, tuple[Placement, ...]]
"""An output, and where in it a file's rows stand."""


class End(NamedTuple):
    """What the ledger says of a file; ``reason`` as it has it."""

    file_id: int
    state: State
    digest: str
    reason: str


class LedgerView:
    """A connection of one thread.

    :raises BusyWorld: it cannot be read, or not yet: the daemon is making it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._world():
            self._inode = path.stat().st_ino
            # Opened by ``Ledger`` it could be brought up to a later layout than the daemon's.
            uri = f"{path.absolute().as_uri()}?mode=ro"
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
        version = self._one("PRAGMA user_version")[0]
        if version == 0 or version > VERSION:
            self.close()
            by = "a later ingestd: use that one" if version else "a daemon that is just starting"
            raise BusyWorld(f"{path}: is made by {by}")

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @property
    def replaced(self) -> bool:
        """Whether another file has taken its place: what is read here stays as it is."""
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def version(self) -> int:
        """A number that changes with each commit of another; asking costs next to nothing."""
        return int(self._one("PRAGMA data_version")[0])

    def last_id(self) -> int:
        """The highest id given so far; 0: none."""
        return int(self._one("SELECT coalesce(max(id), 0) FROM files")[0])

    def end(self, source: str, name: str, known: Fingerprint, after_id: int) -> End | None:
        """What became of this very file, if anything yet; of what came ``after_id`` only."""
        found = self._all(
            "SELECT id, state, digest, coalesce(reason, '') FROM files WHERE source = ?"
            " AND name = ? AND size = ? AND mtime_ns = ? AND inode = ? AND id > ?"
            " AND state != 'pending' ORDER BY id DESC LIMIT 1",
            (source, os.fsencode(name), *known, after_id),
        )
        return End(found[0][0], State(found[0][1]), *found[0][2:]) if found else None

    def committed(self, source: str, name: str, size: int, mtime_ns: int) -> dict[str, int]:
        """Committed files of this name, size and time: their ids by the digest of their bytes.

        Also those taken over from an output's own records, which know no size.
        """
        raw = os.fsencode(name)
        return dict(
            self._all(
                "SELECT digest, id FROM files WHERE source = ? AND name IN (?, ?) AND digest != ''"
                " AND size IN (?, -1) AND mtime_ns = ? AND state = 'committed' ORDER BY id DESC",
                (source, raw, raw[-NAME_BYTES:], size, mtime_ns),
            )
        )

    def brought(self, digest: str, source: str) -> list[tuple[int, str]]:
        """The committed files with this content, id and name: of ``source`` first, oldest first."""
        found = self._all(
            f"SELECT id, name FROM files WHERE {HAS_DIGEST.format('?1')} AND state = 'committed'"
            " ORDER BY source != ?2, id",
            (digest, source),
        )
        return [(file_id, os.fsdecode(name)) for file_id, name in found]

    def rows(self, file_id: int) -> Rows:
        """Where the rows of a file stand."""
        found = self._all(
            "SELECT output, dataset, first_row, rows, digest FROM placements WHERE file_id = ?"
            " ORDER BY dataset",
            (file_id,),
        )
        placements = tuple(Placement(r[1], RowRange(r[2], r[2] + r[3]), r[4]) for r in found)
        return (found[0][0] if found else None), placements

    def _one(self, query: str) -> tuple[Any, ...]:
        return self._all(query)[0]

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._world():
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _world(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise BusyWorld(f"{self.path}: is not there yet") from error
        except (OSError, sqlite3.DatabaseError) as error:
            raise BusyWorld(f"{self.path}: {error}. Make it readable, then try again") from error
