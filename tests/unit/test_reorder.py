"""The reorder buffer: bounded, in order, and never stuck."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from helpers import until

from ingestd.errors import BadFile
from ingestd.model import Decoded, Failed, NotYet, Opened
from ingestd.pipeline.reorder import Closed, Reorder


def waiting(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """``work`` in a thread, and what came of it: its value, or what it raised."""
    result: list[object] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result


def test_a_file_that_is_ready_early_waits_for_the_one_before_it() -> None:
    reorder = Reorder(100)
    reorder.put(1, Decoded())

    assert reorder.take(0) is None
    reorder.put(0, Opened("x", {}), Decoded())

    taken = [reorder.take(0) for _ in range(4)]
    assert [t and (t[0], type(t[1])) for t in taken] == [
        (0, Opened),
        (0, Decoded),
        (1, Decoded),
        None,
    ]


@pytest.mark.parametrize("ending", [Failed(BadFile("a", "b", "c")), NotYet(0.0, "x"), Decoded()])
def test_each_ending_lets_the_next_file_through(ending) -> None:
    reorder = Reorder(100)
    reorder.put(1, Decoded())
    reorder.put(0, ending)

    assert reorder.take(0) == (0, ending)
    assert reorder.take(0) == (1, Decoded())


def test_files_that_run_ahead_never_take_more_than_half() -> None:
    reorder = Reorder(100)
    reorder.reserve(3, 30)
    reorder.reserve(5, 20)

    thread, result = waiting(lambda: reorder.reserve(4, 1))
    reorder.reserve(0, 50)

    assert thread.is_alive()
    reorder.release(5, 20)
    until(lambda: not thread.is_alive(), "the file ahead went on once there was room")
    assert result == [None]


def test_a_file_that_becomes_the_head_may_take_what_it_could_not_before() -> None:
    reorder = Reorder(100)
    reorder.reserve(1, 50)
    thread, result = waiting(lambda: reorder.reserve(1, 50))

    reorder.put(0, Decoded())
    assert thread.is_alive()
    reorder.take(0)

    until(lambda: not thread.is_alive(), "the new head went on")
    assert result == [None]


def test_more_than_half_of_the_bound_at_once_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        Reorder(100).reserve(0, 51)


def test_nothing_may_be_reserved_and_released() -> None:
    reorder = Reorder(100)

    reorder.reserve(0, 0)
    reorder.release(0, 0)

    reorder.reserve(0, 50)


def test_take_gives_up_after_its_timeout() -> None:
    assert Reorder(100).take(0.001) is None


def test_closing_wakes_whoever_waits() -> None:
    reorder = Reorder(100)
    reorder.reserve(0, 50)
    reorder.reserve(0, 50)
    reserver = waiting(lambda: reorder.reserve(0, 1))
    taker = waiting(lambda: reorder.take(60))

    reorder.close()

    for thread, _ in (reserver, taker):
        until(lambda t=thread: not t.is_alive(), "it woke")
    assert isinstance(reserver[1][0], Closed)
    assert taker[1] == [None]


def test_whoever_comes_after_closing_is_told_but_what_was_said_can_be_taken() -> None:
    reorder = Reorder(100)
    reorder.put(0, Decoded())

    reorder.close()

    with pytest.raises(Closed):
        reorder.put(1, Decoded())
    with pytest.raises(Closed):
        reorder.reserve(1, 1)
    assert reorder.take(60) == (0, Decoded())
    assert reorder.take(60) is None
