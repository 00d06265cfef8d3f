from __future__ import annotations

import pytest

from ingestd.sinks.partial import (
    TAIL_SECONDS,
    TAIL_SECONDS_MAX,
    WASTE_BYTES,
    WASTE_SHARE,
    PartialChunks,
)

CHUNK = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chunks(clock) -> PartialChunks:
    return PartialChunks(CHUNK, clock)


def test_nothing_is_due_while_nothing_waits(chunks, clock) -> None:
    clock.now += 2 * TAIL_SECONDS_MAX

    assert not chunks.due(100)


def test_the_first_partial_chunk_is_due_once_its_oldest_row_has_waited(chunks, clock) -> None:
    chunks.rows_wait()
    clock.now += TAIL_SECONDS - 1
    chunks.rows_wait()
    assert not chunks.due(100)

    clock.now += 1

    assert chunks.due(100)


def test_rows_that_come_after_a_write_wait_anew(chunks, clock) -> None:
    chunks.rows_wait()
    clock.now += TAIL_SECONDS
    chunks.wrote_partial(50)

    chunks.rows_wait()

    assert not chunks.due(100)
    clock.now += TAIL_SECONDS
    assert chunks.due(100)


def test_rows_of_a_chunk_that_filled_up_wait_no_longer(chunks, clock) -> None:
    chunks.rows_wait()
    clock.now += TAIL_SECONDS
    chunks.none_wait()

    assert not chunks.due(100)


def test_without_allowance_rows_wait_for_the_longest_time(chunks, clock) -> None:
    chunks.wrote_partial(CHUNK)
    chunks.rows_wait()

    clock.now += TAIL_SECONDS_MAX - 1
    assert not chunks.due(100)

    clock.now += 1
    assert chunks.due(100)


def test_whole_chunks_give_allowance(chunks, clock) -> None:
    chunks.wrote_partial(WASTE_BYTES)
    for _ in range(9):
        chunks.wrote_whole(CHUNK)
    chunks.rows_wait()
    clock.now += TAIL_SECONDS
    assert not chunks.due(CHUNK // 2)

    chunks.wrote_whole(CHUNK)

    assert chunks.due(CHUNK // 2)


def test_small_chunks_may_waste_as_much_as_a_large_one(clock) -> None:
    chunks = PartialChunks(CHUNK // 64, clock)
    for _ in range(100):
        chunks.rows_wait()
        clock.now += TAIL_SECONDS
        assert chunks.due(CHUNK // 128)
        chunks.wrote_partial(CHUNK // 128)


@pytest.mark.parametrize("ratio", [1.0, 0.2, 0.01])
@pytest.mark.parametrize("chunk_seconds", [15, 100, 1000])
def test_waste_keeps_below_its_share_but_for_what_must_be_seen(
    chunks, clock, ratio: float, chunk_seconds: int
) -> None:
    whole = wasted = must = 0.0
    for second in range(200_000):
        clock.now += 1
        chunks.rows_wait()
        filled = second % chunk_seconds + 1
        if filled == chunk_seconds:
            chunks.none_wait()
            chunks.wrote_whole(round(CHUNK * ratio))
            whole += CHUNK * ratio
        elif chunks.due(CHUNK * filled // chunk_seconds):
            size = CHUNK * ratio * filled / chunk_seconds
            forced = wasted + size > WASTE_SHARE * whole + CHUNK
            must += size * forced
            wasted += size * (not forced)
            chunks.wrote_partial(round(size))

    assert wasted <= WASTE_SHARE * whole + CHUNK
    assert must <= 200_000 / TAIL_SECONDS_MAX * CHUNK * ratio
