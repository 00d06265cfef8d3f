"""A reading child as seen from the daemon: it may crash, hang or lie, and costs one file at most.

Children are kept for the next file, so that their start (0.2 s) is paid once for as many files as
are open at a time. Each ends when its socket does, which is with the daemon at the latest.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ingestd.errors import BadFile
from ingestd.isolated.wire import Member, fill, receive, send, unpack_member

WAIT_SECONDS = 300.0
"""An answer that takes longer is the disk's fault: work without end is ended sooner, by CPU time"""

CPU_SECONDS = 30
"""For each thing asked: far more than a slab takes. HDF5 runs in circles on some damaged files."""

IDLE_MAX = 8

_ROOT = str(Path(__file__).parents[2])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from ingestd.isolated.child import main; "
    "main(int(sys.argv[2]))"
)
_LIBRARY_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # they take address space


class Child:
    """One child, which has one file open at a time. Safe to use from several threads."""

    def __init__(self) -> None:
        """:raises OSError: it cannot be started."""
        self._lock = threading.Lock()
        self._in_step = False
        self._failure: BadFile | None = None
        self._words = ("a file that can be read", "Save it again, then drop it again.")
        self._pipe, other = socket.socketpair()
        with other:
            # Its own group: Ctrl-C is for us, who end it in good time.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-W", "ignore", "-c", _PROGRAM, _ROOT, str(CPU_SECONDS)],
                stdin=other.fileno(),
                env={**os.environ, **_LIBRARY_THREADS},
                process_group=0,
            )
        self._pipe.settimeout(WAIT_SECONDS)
        try:
            receive(self._pipe)
            self._in_step = True
        except (EOFError, ValueError, OSError):
            self.close()
            raise OSError(
                errno.ECHILD, "the process that reads such files does not start"
            ) from None

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self._process.pid)

    @property
    def usable(self) -> bool:
        """Whether it waits for the next thing to do."""
        return self._in_step and self._process.poll() is None

    def open(
        self, fd: int, reader: str, options: dict[str, Any], expected: str, remedy: str
    ) -> dict[str, Member]:
        """Open the file of ``fd`` by the module ``reader``; its members by name.

        ``expected`` and ``remedy`` are for the BadFile, if the library cannot read it.

        :raises BadFile: it is refused. :raises OSError: the disk failed.
        """
        with self._lock:
            self._words = expected, remedy
            answer = self._ask({"open": reader, "options": options}, fd)
            try:
                return {str(n): unpack_member(m) for n, m in answer["members"].items()}
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                raise self._bad(f"its header makes no sense ({error})") from None

    def rows(self, name: str, member: Member, start: int, count: int) -> np.ndarray:
        """Rows of a member, fresh.

        :raises BadFile, OSError: as ``open``.
        """
        with self._lock:
            self._ask({"rows": [name, start, count]})
            # Memory is taken when the child has the rows, not before.
            shape = (count, *member.shape[1:]) if member.shape else ()
            rows = np.empty(shape, member.dtype)
            if rows.nbytes:
                self._in_step = False
                try:
                    fill(self._pipe, rows.reshape(-1).view(np.uint8).data)
                except (EOFError, OSError) as error:
                    raise self._ended(error) from None
                self._in_step = True
            return rows

    def release(self) -> None:
        """Let it close its file."""
        with self._lock:
            if self.usable:
                try:
                    self._ask({})
                except (BadFile, OSError):
                    self.close()

    def close(self) -> None:
        """End it."""
        self._in_step = False
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, message: dict[str, Any], fd: int | None = None) -> dict[str, Any]:
        if self._failure is not None:
            raise self._failure
        self._in_step = False
        try:
            send(self._pipe, message, fd)
            answer = dict(receive(self._pipe))
            said = self._said(answer)
        except (EOFError, ValueError, TypeError, OSError) as error:
            raise self._ended(error) from None
        self._in_step = True
        if said is not None:
            raise said
        return answer

    def _said(self, answer: dict[str, Any]) -> Exception | None:
        """What it says went wrong."""
        if "bad" in answer:
            return BadFile(*map(str, answer["bad"]))
        if "errno" in answer:
            return OSError(int(answer["errno"]), os.strerror(int(answer["errno"])))
        if "failed" in answer:
            return self._bad(f"it cannot be read ({answer['failed']})")
        return None

    def _ended(self, error: Exception) -> Exception:
        """Why it says no more, as an error to raise."""
        if isinstance(error, TimeoutError):
            self.close()
            return OSError(errno.ETIMEDOUT, f"it was not read within {WAIT_SECONDS:.0f} s")
        if isinstance(error, ValueError | TypeError):
            self.close()
            found = "what read it gave no sense, as after a crash"
        else:
            found = _death(self._process)
            self.close()
        self._failure = self._bad(found)
        return self._failure

    def _bad(self, found: str) -> BadFile:
        expected, remedy = self._words
        return BadFile(expected, found, remedy)


def _death(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(5.0)  # its socket is closed, so it is ending
    except subprocess.TimeoutExpired:
        return "it crashed its reader"
    if status == -signal.SIGXCPU:
        return "its reader worked on it without end"
    how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    return f"it crashed its reader ({how})"


_idle: list[Child] = []
# A file may be forgotten, and so its child given back, at any time: within ``take`` too.
_idle_lock = threading.RLock()


def take() -> Child:
    """A child with no file open. :raises OSError: none can be started."""
    while True:
        with _idle_lock:
            child = _idle.pop() if _idle else None
        if child is None:
            return Child()
        if child.usable:
            return child
        child.close()


def give_back(child: Child) -> None:
    """``child`` is not needed for its file any more."""
    child.release()
    with _idle_lock:
        if child.usable and len(_idle) < IDLE_MAX:
            _idle.append(child)
            return
    child.close()


@atexit.register
def close_all() -> None:
    """End the children that wait for files."""
    with _idle_lock:
        ended, _idle[:] = list(_idle), []
    for child in ended:
        child.close()
