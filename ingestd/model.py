"""The nouns: frozen data that every part shares. No I/O, and no part can change another's copy."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ingestd.errors import BadFile

_INT64 = 2**63 - 1
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows ``start`` up to, not including, ``stop`` of one dataset."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.stop, self

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class RowType:
    """What one row of a dataset is: its dtype and its shape (without axis 0).

    ``units``: of the times among its integers, by path of the field, such as
    ``{"start": "datetime64[ns]"}``; "" is the whole.
    """

    dtype: np.dtype
    row_shape: tuple[int, ...]
    units: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * int(np.prod(self.row_shape, dtype=object))

    def __str__(self) -> str:
        times = "".join(f", {path} {unit}".replace("  ", " ") for path, unit in self.units.items())
        return f"{self.dtype} {self.row_shape}{times}"


class Fingerprint(NamedTuple):
    """The quick look at a file: the same four (with its path) mean the same, unchanged file."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Fingerprint:
        """The fingerprint in a stat result."""
        mtime_ns = stat.st_mtime_ns
        if not -_INT64 <= mtime_ns <= _INT64:
            # As many bits as the ledger has: file systems know dates and inodes beyond.
            mtime_ns = max(-_INT64, min(mtime_ns, _INT64))
        return cls(stat.st_size, mtime_ns, stat.st_ino & _INT64)


class DropFile(NamedTuple):
    """One file that lies in a drop directory; ``name`` is its path below that directory."""

    source: str
    name: str
    fingerprint: Fingerprint

    @property
    def raw_name(self) -> bytes:
        """``name`` as the kernel has it."""
        return self.name.encode(_ENCODING, _ERRORS)

    def __str__(self) -> str:
        return shown(self.name)


@dataclass(frozen=True, slots=True)
class Task:
    """What one decoding thread does at a time: a large file, or some small ones of one source.

    ``again``: the source took a file of this name and size before, so that this one may bring
    nothing new: its content is looked at before its rows are.
    """

    files: tuple[DropFile, ...]
    again: bool = False


def counted(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shown(name: str) -> str:
    """A file name as it can be printed on one line: what is not printable UTF-8 is escaped."""
    if name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Placement(NamedTuple):
    """Where one file's rows stand in one dataset; ``digest`` is xxh3-128, hex, of their bytes."""

    dataset: str
    rows: RowRange
    digest: str


class Entry(NamedTuple):
    """One drop file and its rows, as they go into the ledger and the records of an output."""

    file_id: int
    file: DropFile
    digest: str
    output: str
    placements: tuple[Placement, ...]
    captures: str = ""  # JSON, as layout.captures_text has it


# What a decoding thread says of one drop file, in this order: Opened, Blocks, then one ending.
# Of many small files alike it says all at once: a Bundle, which is their one and only message.


@dataclass(frozen=True, slots=True)
class Opened:
    """The file is believed so far: what it holds for each dataset.

    ``digest`` is that of its bytes; empty where these were not all read yet (a large file).
    ``rows``: how many it has for each, where that is known beforehand.
    """

    digest: str
    types: Mapping[str, RowType]
    rows: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one dataset, ``(rows, *row_shape)``: the whole of a file's, or a slab of them."""

    dataset: str
    rows: np.ndarray


@dataclass(frozen=True, slots=True)
class Decoded:
    """The file is through; the digests (xxh3-128, hex) of its rows by dataset, and of its bytes."""

    digests: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Small files, one after the other, that feed one dataset with the same number of rows each.

    ``rows`` are those of all of them; ``digests`` holds for each file the digest of its bytes, then
    that of its rows.
    """

    dataset: str
    type: RowType
    rows: np.ndarray
    digests: Sequence[tuple[str, str]]

    @property
    def file_rows(self) -> int:
        """How many rows each of the files has."""
        return len(self.rows) // len(self.digests)


@dataclass(frozen=True, slots=True)
class Failed:
    """The file is bad and stays bad."""

    reason: BadFile


@dataclass(frozen=True, slots=True)
class NotYet:
    """The file is not settled, or out of reach for now: look again after ``retry_seconds``.

    ``soon``: time alone will settle it, one way or the other.
    """

    retry_seconds: float
    why: str
    soon: bool = False


Ending = Decoded | Failed | NotYet | Bundle
Message = Opened | Block | Decoded | Failed | NotYet | Bundle
