"""How far somebody has read in one or several datasets: enough to go on, and not elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Position:
    """Records read of each dataset, in the order of ``datasets``. It is small, and pickles.

    ``records`` are whole; ``rows`` more were read of the next one. ``first`` and ``last`` (the one
    read last, in part perhaps) are fingerprints of records: an output that holds others there is
    not the one that was read.
    """

    datasets: tuple[str, ...]
    records: tuple[int, ...]
    rows: int
    first: tuple[str, ...]
    last: tuple[str, ...]

    @classmethod
    def start_of(cls, datasets: tuple[str, ...]) -> Position:
        """Before the first record."""
        nothing = ("",) * len(datasets)
        return cls(datasets, (0,) * len(datasets), 0, nothing, nothing)

    @property
    def touched(self) -> tuple[int, ...]:
        """How many records were read of each dataset, in part at least."""
        return tuple(count + bool(self.rows) for count in self.records)


def fingerprint(record: np.void) -> str:
    """Which rows a record names, and their digest: the same for rows that come again."""
    digest = bytes(record["digest"]).decode("ascii", "backslashreplace")
    return f"{int(record['first_row'])}+{int(record['rows'])}:{digest}"
