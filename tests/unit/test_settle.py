"""A file is settled once its writer has finished, and not before."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import time
from pathlib import Path

import pytest

from ingestd.config import Settle
from ingestd.pipeline import settle
from ingestd.pipeline.settle import POLL_SECONDS, age_seconds, open_wait_seconds, wait_seconds

CLOSED = Settle("closed")


@pytest.fixture
def path(tmp_path) -> Path:
    made = tmp_path / "a.npy"
    made.write_bytes(b"x" * 5000)
    return made


def wait_of(path: Path, how: Settle = CLOSED) -> float:
    """What an open file tells."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return open_wait_seconds(how, fd)
    finally:
        os.close(fd)


def test_a_file_that_nobody_writes_is_settled(path) -> None:
    assert wait_of(path) == 0.0


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_a_file_that_is_open_for_writing_is_not(path, flags: int) -> None:
    writer = os.open(path, flags)
    assert wait_of(path) == POLL_SECONDS

    os.close(writer)

    assert wait_of(path) == 0.0


def test_a_file_that_is_mapped_for_writing_is_not_though_it_was_closed(path) -> None:
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert wait_of(path) == POLL_SECONDS

    mapped.close()

    assert wait_of(path) == 0.0


def test_other_readers_do_not_matter(path) -> None:
    with path.open("rb"):
        assert wait_of(path) == 0.0


def test_the_lease_is_given_back_at_once(path) -> None:
    fd = os.open(path, os.O_RDONLY)

    open_wait_seconds(CLOSED, fd)

    assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    os.close(fd)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.EPERM])
def test_where_no_lease_is_to_be_had_silence_has_to_do(path, monkeypatch, number: int) -> None:
    def refuse(fd: int, command: int, argument: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    written = max(path.stat().st_mtime, path.stat().st_ctime)

    monkeypatch.setattr(time, "time", lambda: written + 0.25)
    assert wait_of(path) == pytest.approx(0.75, abs=0.01)
    monkeypatch.setattr(time, "time", lambda: written + 60)
    assert wait_of(path) == 0.0


@pytest.mark.parametrize(
    "how", [Settle("renamed"), Settle("quiet", seconds=1), Settle("marker", suffix=".ok")]
)
def test_only_closed_looks_at_who_has_it_open(path, how: Settle) -> None:
    with path.open("r+b"):
        assert wait_of(path, how) == 0.0


def test_quiet_waits_for_the_rest_of_its_time(path, monkeypatch) -> None:
    stat = path.stat()
    written = max(stat.st_mtime, stat.st_ctime)
    quiet = Settle("quiet", seconds=2.0)

    monkeypatch.setattr(time, "time", lambda: written + 0.5)
    assert wait_seconds(quiet, path, stat) == pytest.approx(1.5, abs=0.01)
    monkeypatch.setattr(time, "time", lambda: written + 2.5)
    assert wait_seconds(quiet, path, stat) == 0.0


def test_a_marker_is_waited_for_without_end(path) -> None:
    marker = Settle("marker", suffix=".ready")
    assert wait_seconds(marker, path, path.stat()) is None

    Path(f"{path}.ready").touch()

    assert wait_seconds(marker, path, path.stat()) == 0.0


def test_a_listing_tells_nothing_of_a_writer(path) -> None:
    assert wait_seconds(CLOSED, path, path.stat()) == 0.0
    assert wait_seconds(Settle("renamed"), path, path.stat()) == 0.0


@pytest.mark.parametrize(("ahead_seconds", "age"), [(1000, 0.0), (7200, float("inf"))])
def test_a_clock_a_little_ahead_means_now_and_one_far_ahead_nothing(
    path, ahead_seconds: float, age: float
) -> None:
    os.utime(path, (time.time() + ahead_seconds, time.time() + ahead_seconds))

    assert age_seconds(path.stat()) == age


def test_a_new_name_makes_a_file_young_however_old_its_content(path) -> None:
    os.utime(path, (0, 0))

    path.rename(path.with_name("b.npy"))

    assert age_seconds(path.with_name("b.npy").stat()) < settle.GRACE_SECONDS
