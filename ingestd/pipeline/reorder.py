"""The reorder buffer: what decoding threads say of many files, given out in the files' order.

Bytes in flight never exceed ``bytes_max``, and the head of the line can always go on: files
that run ahead of it share one half of the bytes, so they can never hold all. Nobody runs further
ahead than the writer needs: memory that was just used is the fastest.
"""

from __future__ import annotations

import threading
from collections import deque

from ingestd.model import Block, Bundle, Ending, Message

ENOUGH_BYTES = 16 << 20
"""With so much to write, decoding may wait."""


class Closed(Exception):
    """The buffer is closed: the flow is stopping, and nobody will take what would be put."""


class Reorder:
    """Tickets are 0, 1, 2, ...: each is a task; it ends with the ending of its last file."""

    def __init__(self, bytes_max: int, enough: int = ENOUGH_BYTES) -> None:
        self._bytes_max = bytes_max
        self._enough = enough
        self._said: dict[int, deque[Message]] = {}
        self._held: dict[int, int] = {}  # bytes reserved by each ticket, those written left out
        self._to_write: dict[int, int] = {}  # of those, what was said and is not written
        self._in_flight = 0
        self._ended: set[int] = set()  # all was said of them
        self._head = 0
        self._woken = False
        self._closed = False
        self._changed = threading.Condition()

    def reserve(self, ticket: int, nbytes: int) -> None:
        """Wait until ``nbytes`` may be taken for ``ticket``; at most half of the bound at once.

        :raises Closed: the flow is stopping.
        """
        assert nbytes <= self._bytes_max // 2
        with self._changed:
            while not self._closed and not self._may_take(ticket, nbytes):
                self._changed.wait()
            if self._closed:
                raise Closed
            self._in_flight += nbytes
            self._held[ticket] = self._held.get(ticket, 0) + nbytes

    def _may_take(self, ticket: int, nbytes: int) -> bool:
        if self._in_flight + nbytes > self._bytes_max:
            return False
        if ticket == self._head:
            return self._to_write.get(ticket, 0) < self._enough
        ahead = self._in_flight - self._held.get(self._head, 0)
        enough = self._enough if ahead else nbytes
        return ahead + nbytes <= min(self._bytes_max // 2, enough)

    def release(self, ticket: int, nbytes: int) -> None:
        """``nbytes`` reserved for ``ticket`` are free again: they were never needed."""
        with self._changed:
            self._free(ticket, nbytes)

    def written(self, ticket: int, nbytes: int) -> None:
        """``nbytes`` that were said of ``ticket`` are free again: they are written."""
        with self._changed:
            _less(self._to_write, ticket, nbytes)
            self._free(ticket, nbytes)

    def _free(self, ticket: int, nbytes: int) -> None:
        self._in_flight -= nbytes
        _less(self._held, ticket, nbytes)
        self._changed.notify_all()

    def put(self, ticket: int, *messages: Message, more: bool = False) -> None:
        """Say ``messages`` of ``ticket``, in order; with an ending as the last of them no more will
        be said of it, but if there are ``more`` files. Never waits: ``reserve`` has waited.

        :raises Closed: the flow is stopping.
        """
        with self._changed:
            if self._closed:
                raise Closed
            self._said.setdefault(ticket, deque()).extend(messages)
            nbytes = sum(m.rows.nbytes for m in messages if isinstance(m, Block | Bundle))
            self._to_write[ticket] = self._to_write.get(ticket, 0) + nbytes
            _less(self._to_write, ticket, 0)
            if not more and isinstance(messages[-1], Ending):
                self._ended.add(ticket)
            if ticket == self._head:
                self._changed.notify_all()

    def take(self, timeout: float) -> tuple[int, Message] | None:
        """The next message of the task at the head, or None after ``timeout`` seconds, or woken."""
        with self._changed:
            self._changed.wait_for(self._worth_a_look, timeout)
            self._woken = False
            said = self._said.get(self._head)
            if not said:
                return None
            message, ticket = said.popleft(), self._head
            if not said:
                del self._said[ticket]
                if ticket in self._ended:
                    self._ended.remove(ticket)
                    self._head += 1
                    self._changed.notify_all()
            return ticket, message

    def _worth_a_look(self) -> bool:
        return self._closed or self._woken or self._head in self._said

    def wake(self) -> None:
        """Let whoever is in ``take`` return."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Whoever waits, and whoever comes later, gets Closed; what was said can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _less(counts: dict[int, int], ticket: int, nbytes: int) -> None:
    left = counts.pop(ticket, 0) - nbytes
    if left:
        counts[ticket] = left
