"""What the kernel tells of directories, by way of watchdog. It does nothing but ring."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyConstants

_EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]


class Events:
    """Rings when something comes to a directory that is followed; ``lost`` when events were."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._observer = Observer()
        self._observer.name = "watchdog"
        self._observer._emitter_class = _Emitter
        self._overflow = _OverflowHandler(lost)
        logging.getLogger("watchdog").addHandler(self._overflow)
        self._observer.start()

    def follow(self, directory: Path, recursive: bool, ring: Callable[[], None]) -> ObservedWatch:
        """Ring for what comes to ``directory`` from now on.

        :raises OSError: it cannot be followed.
        """
        return self._observer.schedule(
            _Ringer(ring), str(directory), recursive=recursive, event_filter=_EVENTS
        )

    def unfollow(self, watch: ObservedWatch) -> None:
        """No more of that."""
        self._observer.unschedule(watch)

    def close(self) -> None:
        """Follow nothing."""
        self._observer.stop()
        self._observer.join()
        logging.getLogger("watchdog").removeHandler(self._overflow)


class _Emitter(InotifyEmitter):
    """Not told of what leaves: watchdog would hold back all that comes after it for 0.5 s, to pair
    the two halves of a move, and each file that is archived leaves."""

    def get_event_mask_from_filter(self) -> Any:
        return super().get_event_mask_from_filter() & ~InotifyConstants.IN_MOVED_FROM


class _Ringer(FileSystemEventHandler):
    """Does nothing but ring: an exception here would silence watchdog for good."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._ring()


class _OverflowHandler(logging.Handler):
    """watchdog tells of an overflow of its queue only in its log."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._ring = ring

    def emit(self, record: logging.LogRecord) -> None:
        self._ring()
