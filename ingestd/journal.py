"""The log: one fact a line, with fields. To the journal under systemd, else to stderr."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Protocol

log = logging.getLogger("ingestd")

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


def event(level: int, message: str, **fields: object) -> None:
    """Log one fact; ``fields`` (source, file, rows, reason, ...) that are None are left out."""
    log.log(level, message, extra={"fields": {k: v for k, v in fields.items() if v is not None}})


class LineFormatter(logging.Formatter):
    """``12:00:01 message key=value key='two words'``, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        shown = "".join(f" {k}={_value(v)}" for k, v in fields.items())
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        text = f"{clock} {level}{message}{shown}"
        return text + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def _value(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c in text for c in " \t\n=\"'") else text


class JournalHandler(logging.Handler):
    """Sends records to journald with their fields (systemd's native journal protocol)."""

    def __init__(self, address: str = "/run/systemd/journal/socket") -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.connect(address)

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": _PRIORITY.get(record.levelno, 6),
            "SYSLOG_IDENTIFIER": "ingestd",
            **{f"INGESTD_{k.upper()}": v for k, v in getattr(record, "fields", {}).items()},
        }
        parts = []
        for key, value in fields.items():
            data = str(value).encode("utf-8", "surrogateescape")
            parts.append(key.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        try:
            self._socket.send(b"".join(parts))
        except OSError:
            self.handleError(record)


def set_up(to_journal: bool = False, verbose: bool = False) -> None:
    """Send the log to the journal, or to stderr."""
    handler: logging.Handler
    if to_journal:
        handler = JournalHandler()
        handler.setFormatter(LineFormatter())
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(LineFormatter())
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


class Lines(Protocol):
    """Where lines of log can go."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


@contextlib.contextmanager
def lines_to(stream: Lines) -> Iterator[None]:
    """Meanwhile, what would go to stderr goes to ``stream``."""
    handlers = [h for h in log.handlers if isinstance(h, logging.StreamHandler)]
    before = [handler.stream for handler in handlers]
    try:
        for handler in handlers:
            handler.setStream(stream)
        yield
    finally:
        for handler, stderr in zip(handlers, before, strict=True):
            handler.setStream(stderr)
