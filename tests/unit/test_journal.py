"""A fact is one line with its fields, wherever it goes."""

from __future__ import annotations

import logging
import socket
import struct
import sys

import pytest

from ingestd import journal


@pytest.fixture(autouse=True)
def untouched_log():
    """The log as it was, whatever a test set up."""
    log = journal.log
    kept = log.handlers[:], log.propagate, log.level
    yield
    log.handlers[:], log.propagate = kept[0], kept[1]
    log.setLevel(kept[2])


def record(message: str, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("ingestd", level, "", 0, message, (), None)
    made.fields = fields
    return made


def test_fields_follow_the_message_quoted_where_they_must_be() -> None:
    line = journal.LineFormatter().format(record("committed", rows=3, last="a b", none=""))

    assert line[8:] == " committed rows=3 last='a b' none=''"


def test_a_newline_in_a_field_stays_on_the_line() -> None:
    line = journal.LineFormatter().format(record("skipped", file="a\nb"))

    assert "\n" not in line


def test_trouble_says_its_level() -> None:
    line = journal.LineFormatter().format(record("no room", logging.WARNING))

    assert line.endswith(" warning: no room")


def test_an_exception_is_shown_with_its_trace() -> None:
    made = record("a format failed")
    try:
        raise ValueError("seven")
    except ValueError:
        made.exc_info = sys.exc_info()

    assert "ValueError: seven" in journal.LineFormatter().format(made)


def test_fields_that_are_none_are_left_out(caplog) -> None:
    journal.log.propagate = True

    with caplog.at_level(logging.INFO, logger="ingestd"):
        journal.event(logging.INFO, "x", source="s", reason=None)

    assert caplog.records[0].fields == {"source": "s"}


def test_journald_gets_each_field_in_its_own_protocol(tmp_path) -> None:
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        handler = journal.JournalHandler(address)
        handler.setFormatter(journal.LineFormatter())
        handler.emit(record("two\nlines", logging.WARNING, file="a\udcff"))
        data = receiver.recv(65536)
        handler._socket.close()

    fields = _parsed(data)
    assert fields[b"PRIORITY"] == b"4"
    assert fields[b"MESSAGE"].endswith(rb"two\nlines file=" + b"a\xff")
    assert fields[b"INGESTD_FILE"] == b"a\xff"


def _parsed(data: bytes) -> dict[bytes, bytes]:
    fields = {}
    while data:
        key, _, data = data.partition(b"\n")
        (length,) = struct.unpack_from("<Q", data)
        fields[key] = data[8 : 8 + length]
        data = data[8 + length + 1 :]
    return fields


def test_without_the_journal_the_log_goes_to_stderr(capsys) -> None:
    journal.set_up()
    journal.event(logging.INFO, "here", rows=1)
    journal.event(logging.DEBUG, "only when verbose")

    err = capsys.readouterr().err
    assert "here rows=1" in err
    assert "verbose" not in err
