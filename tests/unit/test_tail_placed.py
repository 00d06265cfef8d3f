"""Rows that stand where their files' names say: readers go by the records, in order of arrival."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ingestd.tail import NotCommitted, open_tail, open_view, trace, verify
from tests.outputs import make_placed

FILES = [(6, 2), (0, 2), (2, 1), (9, 1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Rows 3 to 5, and 8, are missing."""
    return make_placed(tmp_path / "placed.h5", FILES, end=12)


def test_placed_rows_come_in_order_of_arrival_and_blocks_say_where(path: Path) -> None:
    with open_tail(path, timeout=0) as tail:
        blocks = list(tail)

    assert [(b.start, b.stop) for b in blocks] == [(6, 8), (0, 3), (9, 10)]
    assert [row for b in blocks for row in b.rows] == [6, 7, 0, 1, 2, 9]
    assert [file.captures["seq"] for b in blocks for file in b.files] == [6, 0, 2, 9]


@pytest.mark.parametrize("max_rows", [1, 2, 5])
def test_a_position_among_placed_rows_goes_on_there(path: Path, max_rows: int) -> None:
    position, rows = 0, []

    while True:
        with open_tail(path, None, position, max_rows=max_rows, timeout=0) as tail:
            block = next(tail, None)
            position = tail.position
        if block is None:
            break
        rows += block.rows.tolist()

    assert rows == [6, 7, 0, 1, 2, 9]


def test_the_last_placed_rows_are_the_last_that_came(path: Path) -> None:
    with open_tail(path, None, -2, timeout=0) as tail:
        last = [row for block in tail for row in block.rows]
    with open_tail(path, None, 3, timeout=0) as tail:
        from_3 = [row for block in tail for row in block.rows]
    with open_tail(path, None, "end", timeout=0) as tail:
        none = list(tail)

    assert last == [2, 9]
    assert from_3 == [1, 2, 9]
    assert none == []


def test_a_view_of_placed_rows_ends_at_the_largest_and_shows_gaps_as_fill(path: Path) -> None:
    with open_view(path) as view:
        rows = view["/data"]

        assert rows.shape == (10,)
        assert rows[:].tolist() == [0, 1, 2, -1, -1, -1, 6, 7, -1, 9]
        assert rows[-1] == 9


def test_trace_finds_placed_rows_and_says_that_a_gap_is_one(path: Path) -> None:
    origin = trace(path, None, 7)

    assert (origin.file, origin.row_in_file, origin.captures) == ("f6.npy", 1, {"seq": 6})
    with pytest.raises(NotCommitted, match="row 4 is not written yet"):
        trace(path, None, 4)
    with pytest.raises(NotCommitted, match="It has 10 rows"):
        trace(path, None, 10)


def test_verify_reads_what_records_name_and_nothing_between(path: Path) -> None:
    seen: list[tuple[int, int]] = []

    good = verify(path, progress=lambda done, total: seen.append((done, total)))
    with h5py.File(path, "a") as file:
        file["data"][[4, 7]] = np.array([44, 77])
    bad = verify(path)

    assert good.ok and good.rows == {"/data": 6} and good.files == {"/data": 4}
    assert seen[-1] == (6, 6)
    assert [problem.file for problem in bad.problems] == ["f6.npy"]
