"""One writer: locks that die with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ingestd.errors import BusyWorld

_TRIES = 5
_PAUSE_SECONDS = 0.01


@contextlib.contextmanager
def hold(lock: Path, what: str) -> Iterator[None]:
    """Hold ``lock`` (a file that stays there) while the block runs.

    :raises BusyWorld: another process holds it; ``what`` says what that means.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BusyWorld(
            f"{lock}: cannot be made: {error.strerror}. Make its directory writable"
        ) from error
    try:
        try:
            _take(fd)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            raise BusyWorld(
                f"{lock}: {what} (process {holder or 'unknown'}). Stop that one first"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _take(fd: int) -> None:
    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # Readers that ask whether it is held have it for a moment themselves.
            if not tries_left:
                raise
            time.sleep(_PAUSE_SECONDS)


def held(lock: Path) -> bool:
    """Whether some process holds ``lock``."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def output_lock(output: Path) -> Path:
    """The lock that goes with ``output``."""
    return output.with_name(f".{output.name}.lock")
