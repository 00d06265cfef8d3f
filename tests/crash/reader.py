"""A plain SWMR reader, attached to one handle for as long as it lives: what it saw stays right.

    reader.py OUTPUT DATASET...

Says ``ready`` on stdout once it has opened the file and the datasets, and never opens them again.
It looks until stdin ends, then prints what it saw as a line of JSON. Uses h5py alone, and the
layout: records are looked at before rows, and every row that they name must be right, for ever.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from dataclasses import dataclass, field

import h5py
import numpy as np
from daemon import expected_rows

from ingestd import layout

STUCK_SECONDS = 10.0
"""A reader that nothing but fails for so long is not carried on."""


@dataclass
class Followed:
    """One dataset, and its records as they were seen."""

    name: str
    rows: h5py.Dataset
    records: h5py.Dataset
    seen: np.ndarray = field(default_factory=lambda: np.empty(0, layout.RECORD))
    wrong: list[str] = field(default_factory=list)

    def look(self, chance: random.Random) -> None:
        """Check what is new, and some of what is old."""
        self.records.refresh()
        there = self.records[:]
        self.rows.refresh()
        if len(there) < len(self.seen) or not np.array_equal(there[: len(self.seen)], self.seen):
            self.wrong.append(f"{self.name}: of {len(self.seen)} records some changed, or are gone")
        new = there[len(self.seen) :]
        old = self.seen[[chance.randrange(len(self.seen)) for _ in range(3) if len(self.seen)]]
        end = layout.committed_rows(self.seen[-1]) if len(self.seen) else 0
        for record in new:
            if record["first_row"] != end:
                self.wrong.append(
                    f"{self.name}: a record begins at {record['first_row']}, not {end}"
                )
            end = layout.committed_rows(record)
        for record in (*new, *old):
            self._check(record)
        self.seen = there

    def _check(self, record: np.void) -> None:
        first, stop = int(record["first_row"]), layout.committed_rows(record)
        name = os.fsdecode(bytes(record["name"]))
        rows = self.rows[first:stop]
        if not np.array_equal(rows, expected_rows(self.name, name, stop - first)):
            self.wrong.append(f"{self.name}: rows {first} to {stop} of {name} are wrong")


def main() -> None:
    path, *names = sys.argv[1:]
    chance = random.Random(7)
    file = h5py.File(path, "r", swmr=True)
    followed = [Followed(n, file[n], file[layout.records_path(n)]) for n in names]
    print("ready", flush=True)
    looks = 0
    failures: list[str] = []
    well = time.monotonic()
    last = False
    while True:
        try:
            for one in followed:
                one.look(chance)
            looks += 1
            well = time.monotonic()
        except (OSError, RuntimeError, KeyError) as error:
            failures.append(f"{type(error).__name__}: {error}")
            if time.monotonic() - well > STUCK_SECONDS:
                break
            continue
        if last or any(one.wrong for one in followed):
            break
        last = bool(select.select([sys.stdin], [], [], 0.002)[0])
    print(
        json.dumps(
            {
                "looks": looks,
                "failures": failures,
                "wrong": [text for one in followed for text in one.wrong],
                "rows": {o.name: layout.committed_rows(o.seen[-1]) for o in followed},
            }
        )
    )


if __name__ == "__main__":
    main()
