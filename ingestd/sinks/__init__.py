"""Sinks: where rows go. A sink keeps datasets that grow, and tells no lie after a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ingestd.model import RowRange, RowType

__all__ = ["DatasetSpec", "Sink"]


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A dataset as it shall be made.

    ``chunk_rows`` None: by the row's size and ``file_rows``, the rows of its first file, if known.
    ``chunks``: shape of a chunk that is only a part of its rows. ``filters`` beside the compression
    (``FILTERS`` of the config); None: those that it goes with.
    """

    type: RowType
    chunk_rows: int | None = None
    compression: str = "none"
    level: int | None = None
    fill: np.generic | None = None  # zero
    attrs: Mapping[str, Any] = field(default_factory=dict)
    file_rows: int | None = None
    chunks: tuple[int, ...] | None = None
    filters: tuple[str, ...] | None = None
    placed: bool = False  # rows are written at stated places, not appended
    keyed: bool = False  # each row has a key (layout.key_path)


class Sink(Protocol):
    """One output, written by one thread.

    A call that fails with BusyWorld leaves the sink unusable: close it, recover the output,
    open it again. What ``flush`` had made durable is then still there.
    """

    @property
    def types(self) -> Mapping[str, RowType]:
        """The datasets that exist."""
        ...

    def rows(self, dataset: str) -> int:
        """How many rows were appended to ``dataset``."""
        ...

    def visible(self, dataset: str) -> int:
        """How many rows of ``dataset`` readers can see since the last flush."""
        ...

    def places(self, dataset: str) -> int | None:
        """How many rows have room in a ``placed`` dataset; None: it is appended to."""
        ...

    def ensure(
        self, specs: Mapping[str, DatasetSpec], attrs: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Make the datasets that are missing, all or none, also if the process dies here.

        ``attrs`` are attributes of groups, by path; they are set when a dataset is made.

        :raises BadFile: it cannot hold such rows; nothing has changed.
        """
        ...

    def append(self, dataset: str, rows: np.ndarray) -> RowRange:
        """Put ``rows`` at the dataset's end. They must not be changed any more.

        Readers see them after the next whole flush at latest.
        """
        ...

    def write(self, dataset: str, start: int, rows: np.ndarray) -> RowRange:
        """Put ``rows`` at ``start`` of a ``placed`` dataset; rows never written read as fill."""
        ...

    def blank(self, dataset: str, rows: RowRange) -> bool:
        """Make rows of a ``placed`` dataset as if never written; whether they were not."""
        ...

    def digest(self, dataset: str, rows: RowRange) -> str:
        """xxh3-128, hex, of the bytes of visible rows, read back from where they were written."""
        ...

    def cut(self, ends: Mapping[str, int]) -> None:
        """Take back what lies beyond ``ends`` (dataset to rows), all or none."""
        ...

    def flush(self, *, durable: bool = False, whole: bool = True) -> None:
        """Readers see every row appended so far; ``durable``: and it survives a loss of power.

        Not ``whole``: but for rows that the sink holds back for a while, since to write them now
        would be waste. ``visible`` tells which those are.
        """
        ...

    def barrier(self) -> Callable[[], None]:
        """What makes all that was flushed so far survive a loss of power. Any thread may call it,
        once, whatever became of the sink; it raises as the sink's own methods do."""
        ...

    def close(self) -> None:
        """Flush and close. Closing twice is harmless."""
        ...
