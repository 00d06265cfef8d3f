"""Threads that compress chunks. Chunks come back in the order they went, to the thread that asked.

A chunk that cannot be compressed raises there too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ingestd.sinks.filters import Stored

IN_FLIGHT_BYTES = 16 << 20
"""Chunks under way hold no more bytes uncompressed, unless it is one that is larger.

Their compressed selves may be as large, and each thread works on a copy or two of its chunk.
"""


@dataclass(frozen=True, slots=True)
class _Flight:
    chunk: Future[Stored]
    chunk_bytes: int
    land: Callable[[Stored], None]


class Workers:
    """``count`` threads, which exist from the first chunk on until ``stop``."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None
        self._flights: deque[_Flight] = deque()
        self._bytes = 0

    def send(
        self, compress: Callable[[], Stored], chunk_bytes: int, land: Callable[[Stored], None]
    ) -> None:
        """Call ``compress`` in a thread, and ``land`` with what it made: now or later, but here."""
        while self._flights and self._bytes + chunk_bytes > IN_FLIGHT_BYTES:
            self._land()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, "compress")
        self._flights.append(_Flight(self._pool.submit(compress), chunk_bytes, land))
        self._bytes += chunk_bytes
        while self._flights and self._flights[0].chunk.done():
            self._land()

    def land_all(self) -> None:
        """Wait for what is under way."""
        while self._flights:
            self._land()

    def stop(self) -> None:
        """End the threads. What is under way is dropped."""
        self._flights.clear()
        self._bytes = 0
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _land(self) -> None:
        flight = self._flights.popleft()
        self._bytes -= flight.chunk_bytes
        flight.land(flight.chunk.result())
