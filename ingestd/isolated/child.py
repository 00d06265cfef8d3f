"""The program of the reading child: it opens a file, and hands out what is asked for.

Whatever happens here stays here: memory and time have bounds, and the child ends with the daemon.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import resource
import socket
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ingestd.errors import BadFile, brief
from ingestd.isolated.wire import Member, pack_member, receive, send

MEMORY_BYTES = 3 << 30
"""Address space: a chunk of 256 MiB several times over, a block, and the libraries."""

_WORLD = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO)


class Reader(Protocol):
    """An open file. ``members`` is read once, and what ``rows`` raises makes the file a bad one."""

    members: Mapping[str, Member]

    def rows(self, member: str, start: int, count: int) -> np.ndarray:
        """So many rows of a member, or all of it if it has no axes."""
        ...

    def close(self) -> None: ...


class _Open:
    """The file that is open, and whether it is still whole."""

    def __init__(self, reader: str, fd: int, options: Mapping[str, Any]) -> None:
        self._fd, self._size = fd, os.fstat(fd).st_size
        try:
            self.reader: Reader = importlib.import_module(reader).open_reader(fd, **options)
        except BaseException:
            os.close(fd)
            raise

    def check(self) -> None:
        # Libraries read zeros, or what they have, where a file ends too early.
        size = os.fstat(self._fd).st_size
        if size < self._size:
            raise BadFile(
                f"a file of {self._size:,} bytes, as when it was opened",
                f"it was cut to {size:,} bytes meanwhile",
                "Let its writer write under a temporary name and rename when done.",
            )

    def close(self) -> None:
        try:
            self.reader.close()
        finally:
            os.close(self._fd)


def main(cpu_seconds: int) -> None:
    """Serve the socket that is the standard input, until its end; end what takes so long."""
    pipe = _begin()
    send(pipe, {"ready": True})
    opened: _Open | None = None
    while True:
        fds: list[int] = []
        try:
            asked = receive(pipe, fds)
        except (EOFError, ConnectionError):
            return
        _limit_cpu(cpu_seconds)
        try:
            if opened is not None and "rows" not in asked:
                ended, opened = opened, None
                ended.close()
            answer, rows = {}, None
            if "open" in asked:
                opened = _Open(asked["open"], fds[0], asked["options"])
                found = opened.reader.members
                answer = {"members": {name: pack_member(m) for name, m in found.items()}}
            elif "rows" in asked:
                assert opened is not None
                rows = opened.reader.rows(*asked["rows"])
            if opened is not None:
                opened.check()
        # C libraries raise anything at all on damaged files; what it was, the parent is told.
        except Exception as error:  # noqa: BLE001
            answer, rows = _said(error), None
        try:
            send(pipe, answer)
            if rows is not None and rows.nbytes:
                pipe.sendall(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        except ConnectionError:
            return


def _begin() -> socket.socket:
    """The socket, which nothing that a library prints comes upon; memory is bounded from here."""
    pipe = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    return pipe


def _limit_cpu(seconds: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds, most))


def _said(error: Exception) -> dict[str, Any]:
    if isinstance(error, BadFile):
        return {"bad": [error.expected, error.found, error.remedy]}
    # HDF5 puts the number into its text.
    number = re.search(r"errno = (\d+)", str(error))
    code = int(number[1]) if number else getattr(error, "errno", None)
    if code in _WORLD:
        return {"errno": code}
    return {"failed": brief(error)}
