"""A process of its own for many small files: it reads them, or moves them, in our place.

Such work is all system calls, at each of which Python's lock changes hands; in another process it
costs the others nothing. It may die at any time: what it did not do is done here. This file is also
that process's program, so it imports nothing of ours, to start soon.

Reading stops at the first file that is not as expected; moving leaves such files where they are,
and never overwrites (another disk, no permission, a name that is taken): others look at them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import marshal
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import xxhash

MANY = 16
"""For fewer files another process is not worth while."""

FAILURES_MAX = 3
"""After so many failures it is not started again: it may be that it never can."""

_FAILURES = (OSError, EOFError, ValueError, TypeError)  # it died, or says what makes no sense

File = tuple[str, int, int, int]
"""Name below the drop directory; size, mtime in ns and inode: the very file that was seen."""

Digests = list[tuple[str, str]]
"""Of each file that was read: xxh3-128, hex, of its bytes, and of its rows."""

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LENGTH_BYTES = 4
_NOREPLACE = 1  # RENAME_NOREPLACE of <linux/fs.h>
_PIPE_BYTES = 1 << 20


class Hands:
    """The other process, as seen from here: it is started when there is something to do."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0

    def read(
        self,
        drop: str,
        files: Sequence[File],
        header: bytes,
        step: int,
        leased: bool,
        target: memoryview,
    ) -> Digests:
        """As ``read_alike``."""
        try:
            digests: Digests = self._ask("read", (drop, list(files), header, step, leased))
            _fill(self._started().stdout, target[: len(digests) * step])
            return digests
        except _FAILURES:
            self._failed()
            return read_alike(drop, files, header, step, leased, target)

    def move(self, drop: str, target: str | None, files: Sequence[File]) -> list[bool]:
        """Move ``files`` from ``drop`` to the directory ``target``, None: delete them.

        Gives for each whether it left the drop directory.
        """
        try:
            moved: list[bool] = self._ask("move", (drop, target, list(files)))
            return moved
        except _FAILURES:
            # Whatever it did, doing it again is harmless.
            self._failed()
            return [False] * len(files)

    def _ask(self, what: str, how: tuple[Any, ...]) -> Any:
        process = self._started()
        _send(process.stdin, (what, how))
        return _receive(process.stdout)

    def _failed(self) -> None:
        self._failures += 1
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._failures >= FAILURES_MAX:
            raise EOFError("it has failed too often")
        if self._process is None:
            # Its own group: Ctrl-C is for us, who end it in good time.
            self._process = subprocess.Popen(
                [sys.executable, "-I", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
            )
            with contextlib.suppress(OSError):  # a matter of speed only
                fcntl.fcntl(self._process.stdout or 0, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return self._process

    def close(self) -> None:
        """End the other process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError), process:
                process.kill()


def lease(fd: int) -> None:
    """Take a read lease, which says that nobody writes the file; it goes with ``fd`` at the latest.

    :raises OSError: EAGAIN: somebody has it open for writing, shared memory maps included. Else:
        not our file, or a file system without leases.
    """
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)


def read_alike(
    drop: str, files: Sequence[File], header: bytes, step: int, leased: bool, target: memoryview
) -> Digests:
    """Read the ``step`` bytes that follow ``header`` in each of ``files`` into ``target``.

    Up to a file that is not as expected; with ``leased``, one that is being written is not.
    """
    found, begun = bytearray(len(header)), xxhash.xxh3_128(header)
    digests: Digests = []
    try:
        directory = os.open(drop, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return digests
    try:
        for number, file in enumerate(files):
            data = target[number * step : (number + 1) * step]
            if not _read(directory, file, found, data, leased) or found != header:
                break
            whole = begun.copy()
            whole.update(data)
            digests.append((whole.hexdigest(), xxhash.xxh3_128_hexdigest(data)))
    finally:
        os.close(directory)
    return digests


def _read(directory: int, file: File, header: bytearray, data: memoryview, leased: bool) -> bool:
    """Read ``file``; whether all of it is there, and is the very file that was seen, settled."""
    name, size, mtime_ns, inode = file
    try:
        fd = os.open(name, _FLAGS, dir_fd=directory)
    except OSError:
        return False
    try:
        if leased:
            lease(fd)  # for some microseconds, until it is closed
        if os.readv(fd, [header, data]) != size:
            return False
        # After the read: so it is the same as when it was seen before.
        there = os.fstat(fd)
        return (
            there.st_size == size
            and there.st_mtime_ns == mtime_ns
            and there.st_ino == inode
            and stat.S_ISREG(there.st_mode)
        )
    except OSError:
        return False
    finally:
        os.close(fd)


# The other process


def main() -> None:
    """Do what comes in on the standard input, until its end."""
    buffer = bytearray()
    # Whatever else is printed in this process must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            what, how = _receive(sys.stdin.buffer)
        except EOFError:
            return
        if what == "move":
            _send(answers, _move_all(*how))
            continue
        drop, files, header, step, leased = how
        if len(buffer) < len(files) * step:
            buffer = bytearray(len(files) * step)
        digests = read_alike(drop, files, header, step, leased, memoryview(buffer))
        _send(answers, digests)
        answers.write(memoryview(buffer)[: len(digests) * step])
        answers.flush()


def _move_all(drop: str, target: str | None, files: list[File]) -> list[bool]:
    try:
        here = os.open(drop, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return [False] * len(files)
    there = -1
    try:
        if target is not None:
            Path(target).mkdir(parents=True, exist_ok=True)
            there = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        return [_move(here, there, file) for file in files]
    except OSError:
        return [False] * len(files)
    finally:
        os.close(here)
        if there >= 0:
            os.close(there)


def _move(here: int, there: int, file: File) -> bool:
    name, size, mtime_ns, inode = file
    try:
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        if found.st_size != size or found.st_mtime_ns != mtime_ns or found.st_ino != inode:
            return False
        if there < 0:
            os.unlink(name, dir_fd=here)
        else:
            _rename(here, there, os.fsencode(name))
    except OSError:
        return False
    return True


def _rename(here: int, there: int, name: bytes) -> None:
    # Python has no rename that leaves alone what is there.
    if _libc().renameat2(here, name, there, name, _NOREPLACE):
        raise OSError(ctypes.get_errno(), "cannot be moved")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# What goes between the two


def _send(pipe: IO[bytes] | None, what: Any) -> None:
    assert pipe is not None
    data = marshal.dumps(what)
    pipe.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None
    head = pipe.read(_LENGTH_BYTES)
    data = pipe.read(int.from_bytes(head, "little"))
    if len(head) < _LENGTH_BYTES or not data:
        raise EOFError
    return marshal.loads(data)


def _fill(pipe: IO[bytes] | None, target: memoryview) -> None:
    assert pipe is not None
    while target:
        count = pipe.readinto(target)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        target = target[count:]


if __name__ == "__main__":
    main()
