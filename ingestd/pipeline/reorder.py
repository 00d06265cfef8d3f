"""The reorder buffer: what decoding threads say of many files, given out in the files' order.

Bytes in flight never exceed ``bytes_max``, and the head of the line can always go on: files
that run ahead of it share one half of the bytes, so they can never hold all.
"""

from __future__ import annotations

import threading
from collections import deque

from ingestd.model import Ending, Message


class Closed(Exception):
    """The buffer is closed: the flow is stopping, and nobody will take what would be put."""


class Reorder:
    """Tickets are 0, 1, 2, ...: each is a task; it ends with the ending of its last file."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._said: dict[int, deque[Message]] = {}
        self._held: dict[int, int] = {}  # bytes reserved by each ticket, those written left out
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
        ahead = self._in_flight - self._held.get(self._head, 0)
        return ticket == self._head or ahead + nbytes <= self._bytes_max // 2

    def release(self, ticket: int, nbytes: int) -> None:
        """``nbytes`` reserved for ``ticket`` are free again (written, or never needed)."""
        with self._changed:
            self._in_flight -= nbytes
            left = self._held.pop(ticket, 0) - nbytes
            if left:
                self._held[ticket] = left
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
            if not more and isinstance(messages[-1], Ending):
                self._ended.add(ticket)
            if ticket == self._head:
                self._changed.notify_all()

    def take(self, timeout: float) -> tuple[int, Message] | None:
        """The next message of the task at the head, or None after ``timeout`` seconds, or woken."""
        with self._changed:
            if self._head not in self._said:
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
