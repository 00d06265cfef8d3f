"""Moves or deletes many drop files in a process of its own: of small files that is most work.

It does only what is simple, and never overwrites: a file that is not moved (another file stands in
its place, another disk, no permission) is left where it is, for ``archive`` to look at. This file
is also that process's program; hence nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import marshal
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

_LENGTH_BYTES = 4
_NOREPLACE = 1  # RENAME_NOREPLACE of <linux/fs.h>

File = tuple[str, int, int, int]
"""Name below the drop directory; size, mtime in ns and inode: the very file that was read."""


class Mover:
    """The other process, as seen from here; it is started by the first ``move``, and may die."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def move(self, drop: str, target: str | None, files: Sequence[File]) -> list[bool]:
        """Move ``files`` from ``drop`` to the directory ``target``, None: delete them.

        Gives for each whether it left the drop directory.
        """
        try:
            if self._process is None:
                command = [sys.executable, "-I", "-S", __file__]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
                )
            assert self._process.stdin is not None and self._process.stdout is not None
            _send(self._process.stdin, (drop, target, list(files)))
            moved: list[bool] = _receive(self._process.stdout)
            return moved
        except (OSError, EOFError):
            # It died, or cannot be started: whatever it did, doing it again is harmless.
            self.close()
            return [False] * len(files)

    def close(self) -> None:
        """End the other process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError), process:
                process.kill()


def _send(pipe: IO[bytes], what: Any) -> None:
    data = marshal.dumps(what)
    pipe.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    head = pipe.read(_LENGTH_BYTES)
    data = pipe.read(int.from_bytes(head, "little"))
    if len(head) < _LENGTH_BYTES or not data:
        raise EOFError
    return marshal.loads(data)


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
    name, *fingerprint = file
    try:
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        if [found.st_size, found.st_mtime_ns, found.st_ino] != fingerprint:
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


def main() -> None:
    """Do what comes in on the standard input, until its end."""
    while True:
        try:
            wanted = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(sys.stdout.buffer, _move_all(*wanted))


if __name__ == "__main__":
    main()
