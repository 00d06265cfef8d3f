"""The bar shows how far a run is, disturbs no line of log, and leaves nothing behind."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest

from ingestd import journal
from ingestd.cli import bar
from ingestd.cli.bar import Bar, Rates, shown_bytes, shown_rates, shown_seconds
from ingestd.pipeline.commit import Progress


@pytest.fixture
def log():
    """A log to stderr, for the time of a test."""
    kept = journal.log.handlers[:], journal.log.propagate, journal.log.level
    journal.set_up()
    yield
    journal.log.handlers[:], journal.log.propagate = kept[0], kept[1]
    journal.log.setLevel(kept[2])


def service(waiting: int, **done: int) -> SimpleNamespace:
    return SimpleNamespace(progress=Progress(**done), flow=SimpleNamespace(waiting=lambda: waiting))


@pytest.fixture
def terminal(monkeypatch):
    """Rich takes stderr for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(bar, "SHOWN_AFTER_SECONDS", 0.0)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_it_says_how_many_files_of_all_and_how_many_bytes(terminal, capsys) -> None:
    with Bar(service(15_000, files=4_000, skipped=1_000, bytes=85 << 20)) as shown:
        shown.tick()

    err = plain(capsys.readouterr().err)
    assert "5,000 of 20,000 files" in err
    assert "85 MiB" in err


def test_it_says_so_while_nobody_knows_how_many_there_are(terminal, capsys) -> None:
    with Bar(service(0)) as shown:
        shown.tick()

    assert "looking for files" in plain(capsys.readouterr().err)


def test_a_line_of_log_stays_whole_above_it(terminal, log, capsys) -> None:
    line = "a [bold]line[/] " + "x" * 200

    with Bar(service(3, files=1)) as shown:
        shown.tick()
        journal.event(logging.INFO, line, n=1)
        shown.tick()

    assert f"{line} n=1\n" in plain(capsys.readouterr().err)


def test_the_log_goes_to_stderr_again_when_it_has_gone(terminal, log) -> None:
    handler = journal.log.handlers[0]
    before = handler.stream

    with Bar(service(3)) as shown:
        shown.tick()

    assert handler.stream is before


def test_a_run_that_is_soon_over_shows_none(terminal, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bar, "SHOWN_AFTER_SECONDS", 60.0)

    with Bar(service(3)) as shown:
        shown.tick()

    assert capsys.readouterr().err == ""


def test_rates_are_those_of_the_last_seconds() -> None:
    rates = Rates(0.0)

    for second in range(1, 11):
        rates.note(float(second), files=10 * second, bytes_=0 if second < 10 else 600)

    files, bytes_ = rates.per_second()
    assert files == pytest.approx(10)
    assert bytes_ == pytest.approx(600 / bar.RATE_SECONDS)


def test_amounts_are_short() -> None:
    assert [shown_bytes(n) for n in (0, 999, 1536, 85.3 * 2**20, 1.26 * 2**30)] == [
        "0 bytes",
        "999 bytes",
        "1.5 KiB",
        "85 MiB",
        "1.3 GiB",
    ]
    assert [shown_seconds(s) for s in (0.94, 9.96, 12, 59.9, 61, 3723)] == [
        "0.9 s",
        "10 s",
        "12 s",
        "60 s",
        "1:01",
        "1:02:03",
    ]
    assert shown_rates(22_012.3, 85 * 2**20) == "22,012 files/s, 85 MiB/s"
    assert shown_rates(0, 85 * 2**20) == "85 MiB/s"
