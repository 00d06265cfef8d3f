"""When the partial last chunk of a compressed dataset is written. No I/O.

A chunk that is written again leaves its old place unused for ever: SWMR recycles no space, since a
reader may still look there. So rows of a partial chunk wait for the chunk to fill up, a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TAIL_SECONDS = 2.0
"""Rows that have waited so long are written, if the waste allows it."""

TAIL_SECONDS_MAX = 300.0
"""Rows that have waited so long are written, whatever is wasted."""

WASTE_SHARE = 0.05
WASTE_BYTES = 1 << 20
"""Waste stays below this part of what stands in whole chunks, and so many bytes (or one chunk)."""


class PartialChunks:
    """The partial chunks of one dataset, whose chunks are of ``chunk_bytes`` uncompressed.

    It counts from when the output was opened: what was there before gives no allowance, so that
    no number of restarts adds up to more.
    """

    def __init__(self, chunk_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._chunk_bytes = chunk_bytes
        self._clock = clock
        self._since: float | None = None
        self._whole_chunks = 0
        self._whole_bytes = 0
        self._wasted = 0

    def rows_wait(self) -> None:
        """Rows were added to the partial chunk."""
        if self._since is None:
            self._since = self._clock()

    def due(self, partial_bytes: int) -> bool:
        """Whether the rows that wait shall be written, in a chunk of so many bytes uncompressed."""
        if self._since is None:
            return False
        waited = self._clock() - self._since
        if waited < TAIL_SECONDS:
            return False
        return waited >= TAIL_SECONDS_MAX or self._affordable(partial_bytes)

    def wrote_whole(self, stored_bytes: int) -> None:
        """A chunk was written that is whole."""
        self._whole_chunks += 1
        self._whole_bytes += stored_bytes

    def wrote_partial(self, stored_bytes: int) -> None:
        """The rows that waited were written; some day their chunk will be written again."""
        self._wasted += stored_bytes
        self._since = None

    def none_wait(self) -> None:
        """The rows that waited went into a whole chunk, or were taken back."""
        self._since = None

    def _affordable(self, partial_bytes: int) -> bool:
        one_chunk = self._chunk_bytes
        if self._whole_chunks:
            one_chunk = self._whole_bytes // self._whole_chunks
        estimate = one_chunk * partial_bytes / self._chunk_bytes
        return self._wasted + estimate <= WASTE_SHARE * self._whole_bytes + max(
            one_chunk, WASTE_BYTES
        )
