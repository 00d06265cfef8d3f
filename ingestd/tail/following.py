"""Follows an output as it grows. Each committed row is handed out once, in order.

Writers may die, start again, cut back what was not committed, or not be there yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

import numpy as np

from ingestd.errors import IngestdError
from ingestd.model import shown
from ingestd.tail.opening import (
    PATIENCE_SECONDS,
    CutBack,
    Missing,
    NoSuchDataset,
    NotCommitted,
)
from ingestd.tail.output import Output
from ingestd.tail.slabs import SLAB_BYTES, Committed, committed

POLL_SECONDS = 0.02

_PASSING = (OSError, RuntimeError, KeyError, CutBack, NotCommitted)
"""What reading raises while the metadata is being written, or the file is cut."""


def follow(
    path: str | os.PathLike[str],
    dataset: str | None = None,
    start: int | Literal["end"] = "end",
    *,
    poll_seconds: float = POLL_SECONDS,
    timeout_seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    slab_bytes: int = SLAB_BYTES,
) -> Iterator[Committed]:
    """Committed rows from ``start`` on, for ever, in slabs of ``slab_bytes`` or one row.

    ``start`` is a row, -N for the last N, or ``"end"`` for what is yet to come. ``dataset`` may be
    None if there is one only. A file or dataset that is not there yet is waited for, and counts
    as empty till then. When another file takes the path, it is followed: from where we were if it
    holds the same rows up to there, else from its row 0 (``range.start`` falls back).

    Ends when no new rows came for ``timeout_seconds``, or when ``stop()`` is true.

    :raises NotAnOutput: the file is there, but not one of ingestd's.
    :raises NoSuchDataset: ``dataset`` is None and the output has several.
    :raises CannotOpen: HDF5 cannot open the file.
    :raises IngestdError: it cannot be read, and trying again does not help.
    """
    with closing(_Follower(path, dataset, start, slab_bytes)) as follower:
        quiet_since = time.monotonic()
        while not stop():
            news = False
            for block in follower.news():
                news = True
                yield block
                if stop():
                    return
            if news:
                quiet_since = time.monotonic()
                continue
            quiet_seconds = time.monotonic() - quiet_since
            if timeout_seconds is not None and quiet_seconds >= timeout_seconds:
                return
            left = poll_seconds if timeout_seconds is None else timeout_seconds - quiet_seconds
            time.sleep(min(poll_seconds, left))


class _Follower:
    """Where we are in one dataset, over all the handles that it takes to stay there."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        dataset: str | None,
        start: int | Literal["end"],
        slab_bytes: int,
    ) -> None:
        self._path = path
        self._wanted = dataset
        self._start = start
        self._slab_bytes = slab_bytes
        self._output: Output | None = None
        self._dataset = ""
        self._position: int | None = None
        # The record of the last row handed out: a file that holds it goes on where we are.
        self._anchor: np.void | None = None
        self._identity: tuple[int, int] | None = None
        self._trouble_since: float | None = None

    def close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None

    def news(self) -> Iterator[Committed]:
        """The rows committed since the last call. None also while the world is in between."""
        try:
            if not self._attached() or self._output is None:
                if self._position is None:
                    self._position = 0 if isinstance(self._start, str) else max(0, self._start)
                return
            self._output.refresh()
            position = self._positioned(self._output)
            for block in committed(self._output, self._dataset, position, self._slab_bytes):
                self._position = block.range.stop
                self._anchor = block.record
                yield block
            self._trouble_since = None
        except _PASSING as error:
            self.close()
            now = time.monotonic()
            self._trouble_since = self._trouble_since or now
            if now - self._trouble_since >= PATIENCE_SECONDS:
                raise IngestdError(
                    f"{shown(os.fspath(self._path))}:{shown(self._dataset)}: cannot be read: "
                    f"{error}. Look at it with: ingestd verify {shown(os.fspath(self._path))}"
                ) from error

    def _attached(self) -> bool:
        """Whether the file that now stands at the path is open and has the dataset."""
        if self._output is not None and self._output.replaced:
            self.close()
        if self._output is not None:
            return True
        try:
            self._output = Output(self._path)
        except Missing:
            return False
        try:
            self._dataset = self._output.resolve(self._wanted)
        except NoSuchDataset:
            if self._wanted is None and self._output.datasets:
                raise
            # A dataset that is added later is seen only by those who open the file later.
            self.close()
            return False
        self._stay_or_start_over(self._output)
        return True

    def _stay_or_start_over(self, output: Output) -> None:
        other = self._identity is not None and self._identity != output.identity
        self._identity = output.identity
        if other and self._anchor is not None and not self._same_so_far(output, self._anchor):
            self._position, self._anchor = 0, None

    def _same_so_far(self, output: Output, anchor: np.void) -> bool:
        assert self._position is not None
        try:
            found = output.find(self._dataset, self._position - 1)
        except NotCommitted:
            return False
        return all(found[key] == anchor[key] for key in ("first_row", "rows", "digest"))

    def _positioned(self, output: Output) -> int:
        if self._position is None:
            end = output.committed(self._dataset)
            if isinstance(self._start, str):
                self._position = end
            else:
                self._position = self._start if self._start >= 0 else max(0, end + self._start)
            if 0 < self._position <= end:
                self._anchor = output.find(self._dataset, self._position - 1)
        return self._position
