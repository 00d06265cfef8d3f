"""Waits for a file to be written to. It may ring for nothing, but never stays silent for long.

Where the kernel tells (inotify), a write wakes at once, and waiting costs nothing. Where it does
not (network file systems, or too many watchers), the file is looked at again and again.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from pathlib import Path

from ingestd.tail.handles import Identity

POLL_SECONDS = 0.02
"""How often to look where nothing rings."""

LOOK_SECONDS = 1.0
"""How often to look all the same where something rings."""

_PAUSE_SECONDS = 0.001  # between two looks, while a writer writes without end

# linux/inotify.h
_MODIFY, _ATTRIB, _DELETE_SELF, _MOVE_SELF = 0x2, 0x4, 0x400, 0x800


_MASK = _MODIFY | _ATTRIB | _DELETE_SELF | _MOVE_SELF

# Not watchdog: it takes three threads for one file, and its events carry a delay.
_libc = ctypes.CDLL(None, use_errno=True)


class Bell:
    """Rings when the file at a path changes. For one thread at a time."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self._pid = os.getpid()
        self._hung: tuple[Path, Identity] | None = None
        self._new = False
        self._looked = 0.0
        self._rang = True
        self._every_seconds = POLL_SECONDS

    def hang(self, path: Path, identity: Identity) -> None:
        """Ring from the next wait on for the file that stands at ``path`` now."""
        if self._hung != (path, identity):
            self._hung, self._new = (path, identity), True

    def close(self) -> None:
        """Ring no more; looking again and again is what is left."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._hung, self._new, self._every_seconds = None, None, False, POLL_SECONDS

    def looked(self, news: bool) -> None:
        """Tell that somebody looked, and whether there was something new."""
        self._looked = time.monotonic()
        if news and not self._rang:
            self._every_seconds = POLL_SECONDS  # it does not ring here

    def wait(self, seconds: float) -> bool:
        """Wait for ``seconds`` at most; whether it is time to look (again)."""
        # Of what a descriptor gives to a forked child, its parent would know nothing.
        if self._hung is not None and (self._new or self._pid != os.getpid()):
            self._watch(*self._hung)
            return True  # what came before it could ring
        due = self._looked + self._every_seconds - time.monotonic()
        self._rang = self._rings(max(0.0, min(seconds, due)))
        if self._rang:
            if self._fd is not None:
                self._every_seconds = LOOK_SECONDS
            time.sleep(max(0.0, self._looked + _PAUSE_SECONDS - time.monotonic()))
        return self._rang or due <= seconds

    def _watch(self, path: Path, identity: Identity) -> None:
        # Only now: closing it again takes 10 ms, which those who need not wait are spared.
        self.close()
        self._pid, self._hung = os.getpid(), (path, identity)
        self._fd = _watching(path)
        self._every_seconds = POLL_SECONDS if self._fd is None else LOOK_SECONDS

    def _rings(self, seconds: float) -> bool:
        if self._fd is None:
            time.sleep(seconds)
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(seconds * 1e3):
            return False
        os.read(self._fd, 1 << 16)
        return True


def _watching(path: Path) -> int | None:
    """A descriptor that can be read when the file changes; None: there is none to be had."""
    if not hasattr(_libc, "inotify_init1"):
        return None
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        return None
    if _libc.inotify_add_watch(fd, os.fsencode(path), _MASK) < 0:
        os.close(fd)
        return None
    return fd
