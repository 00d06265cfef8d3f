from __future__ import annotations

import threading

import pytest

from ingestd.sinks import workers
from ingestd.sinks.filters import Stored
from ingestd.sinks.workers import Workers


def alive() -> int:
    return sum(thread.name.startswith("compress") for thread in threading.enumerate())


@pytest.fixture
def three():
    made = Workers(3)
    yield made
    made.stop()
    assert alive() == 0


def test_chunks_land_in_the_order_they_were_sent_in_the_thread_that_sent_them(three) -> None:
    gates = [threading.Event() for _ in range(3)]
    landed: list[tuple[bytes, int]] = []

    def compress(number: int) -> Stored:
        assert gates[number].wait(30)
        return Stored(b"%d" % number, 0)

    for number in range(3):
        three.send(
            lambda number=number: compress(number),
            10,
            lambda made: landed.append((made.data, threading.get_ident())),
        )
    for gate in reversed(gates):
        gate.set()
    three.land_all()

    assert landed == [(b"%d" % number, threading.get_ident()) for number in range(3)]


def test_no_more_bytes_are_under_way_than_allowed(three, monkeypatch) -> None:
    monkeypatch.setattr(workers, "IN_FLIGHT_BYTES", 100)
    sent = landed = 0

    def land(made: Stored) -> None:
        nonlocal landed
        landed += 1

    for sent in range(1, 50):
        three.send(lambda: Stored(b"", 0), 40, land)
        assert sent - landed <= 2
    three.send(lambda: Stored(b"", 0), 1000, land)

    assert landed >= sent


def test_a_failure_reaches_the_thread_that_sent(three) -> None:
    def fail() -> Stored:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        three.send(fail, 10, lambda made: pytest.fail("landed"))
        three.land_all()


def test_what_is_under_way_is_dropped_at_a_stop(three) -> None:
    gate = threading.Event()

    def compress() -> Stored:
        assert gate.wait(30)
        return Stored(b"", 0)

    for _ in range(9):
        three.send(compress, 10, lambda made: pytest.fail("landed"))
    assert alive() == 3
    gate.set()
    three.stop()

    assert alive() == 0
    three.land_all()
    three.stop()
