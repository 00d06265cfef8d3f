"""The drop files that rows came from, by the records of an output; made only when asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ingestd.model import RowRange


@dataclass(frozen=True, slots=True)
class File:
    """One drop file, and the rows that it brought. Times in ns since 1970 UTC, digests in hex.

    ``name`` is the path below the drop directory (of a longer one the last 255 bytes), bytes that
    are not UTF-8 as surrogates: ``os.fsencode`` gives the name back. ``captures`` are what the
    config's ``match`` found in the name. ``file_id`` is the same in all datasets that it feeds.
    """

    name: str
    source: str
    rows: RowRange
    mtime_ns: int
    committed_ns: int
    rows_digest: str
    file_digest: str
    file_id: int
    captures: dict[str, Any]

    @classmethod
    def of(cls, record: np.void) -> File:
        """The file of a record (:data:`ingestd.layout.RECORD`)."""
        first = int(record["first_row"])
        return cls(
            name=os.fsdecode(bytes(record["name"])),
            source=os.fsdecode(bytes(record["source"])),
            rows=RowRange(first, first + int(record["rows"])),
            mtime_ns=int(record["mtime_ns"]),
            committed_ns=int(record["committed_ns"]),
            rows_digest=_hex(record["digest"]),
            file_digest=_hex(record["file_digest"]),
            file_id=int(record["file_id"]),
            captures=_captures(record),
        )


class Files(Sequence[File]):
    """Drop files in the order of their commit; ``records`` are their records, as an array."""

    def __init__(self, records: np.ndarray) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> File: ...
    @overload
    def __getitem__(self, index: slice) -> Files: ...
    def __getitem__(self, index: int | slice) -> File | Files:
        if isinstance(index, slice):
            return Files(self.records[index])
        record: np.void = self.records[index]
        return File.of(record)

    def __iter__(self) -> Iterator[File]:
        return map(File.of, self.records)

    def __repr__(self) -> str:
        shown = [file.name for file in self[:3]]
        return f"<{len(self)} files: {', '.join(shown)}{', ...' if len(self) > 3 else ''}>"


def _captures(record: np.void) -> dict[str, Any]:
    if "captures" not in (record.dtype.names or ()):
        return {}
    text = bytes(record["captures"])
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _hex(digest: bytes) -> str:
    return bytes(digest).decode("ascii", "backslashreplace")
