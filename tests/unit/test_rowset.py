"""Rows as ranges, against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestd.rowset import RowSet

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda p: (p[0], sum(p))))


@given(RANGES, st.integers(0, 40), st.integers(0, 40))
def test_it_tells_what_a_plain_set_tells(ranges: list[tuple[int, int]], a: int, b: int) -> None:
    plain = {row for start, stop in ranges for row in range(start, stop)}
    start, stop = sorted((a, b))

    rows = RowSet(ranges)

    assert rows.stop == max(plain, default=-1) + 1
    assert rows.overlaps(start, stop) == bool(plain & set(range(start, stop)))
    assert rows.covers(start, stop) == (set(range(start, stop)) <= plain)
    missing = [row for gap in rows.missing(start, stop) for row in range(gap.start, gap.stop)]
    assert missing == [row for row in range(start, stop) if row not in plain]


def test_ranges_that_touch_become_one() -> None:
    rows = RowSet([(0, 2), (4, 6), (2, 4), (8, 9)])

    assert rows._starts == [0, 8]
    assert rows._stops == [6, 9]
