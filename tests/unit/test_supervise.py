"""No thread dies alone."""

from __future__ import annotations

import threading

import pytest
from helpers import until

from ingestd.pipeline.reorder import Closed
from ingestd.pipeline.supervise import Supervisor


def test_the_first_failure_is_kept_and_stops_all() -> None:
    stopped = threading.Event()
    supervisor = Supervisor(stopped.set)

    def fail() -> None:
        raise OSError("first")

    def fail_later() -> None:
        stopped.wait(10)
        raise ValueError("second")

    supervisor.start("later", fail_later)
    supervisor.start("fail", fail)
    supervisor.join()

    assert supervisor.stopping.is_set()
    assert isinstance(supervisor.failure, OSError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_no_exception_of_ours_is_a_failure_too(error: type[BaseException]) -> None:
    supervisor = Supervisor(lambda: None)

    def fail() -> None:
        raise error

    supervisor.start("fail", fail)
    supervisor.join()

    assert isinstance(supervisor.failure, error)


def test_closed_is_an_ordinary_end() -> None:
    supervisor = Supervisor(lambda: None)

    def end() -> None:
        raise Closed

    supervisor.start("end", end)
    supervisor.join()

    assert supervisor.failure is None
    assert not supervisor.stopping.is_set()


def test_it_is_alive_until_the_last_thread_ends() -> None:
    release = threading.Event()
    supervisor = Supervisor(release.set)

    def wait() -> None:
        release.wait(10)

    supervisor.start("short", lambda: None)
    supervisor.start("long", wait)

    assert supervisor.alive()
    supervisor.stop()

    until(lambda: not supervisor.alive(), "all threads have ended")
