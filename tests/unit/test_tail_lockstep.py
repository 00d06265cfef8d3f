"""Datasets that are read in step: a file counts when all of them have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd import layout
from ingestd.errors import UsageError
from ingestd.tail import open_tail, window
from tests.outputs import make_output


def pairs(path: Path, start: Any = 0, **how: Any) -> list[tuple[int, list[int], list[int]]]:
    """The first file's id, and the rows of both datasets, of each block."""
    with open_tail(path, ["/X", "y"], start, timeout=0, **how) as tail:
        return [
            (b.files[0].file_id, b.rows["/X"][:, 0].tolist(), b.rows["/y"][:, 0].tolist())
            for b in tail
        ]


def test_a_file_feeds_both_datasets_with_as_many_rows_as_it_has_for_each(tmp_path: Path) -> None:
    path = make_output(make_output(tmp_path / "o.h5", [2, 3], "/X"), [1, 0], "/y")

    with open_tail(path, ["/X", "/y"], timeout=0) as tail:
        (block,) = tail

    assert block.rows["/X"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert block.rows["/y"][:, 0].tolist() == [0]
    assert {name: len(rows) for name, rows in block.ranges.items()} == {"/X": 5, "/y": 1}
    assert (block.start, block.stop) == (0, 5)
    assert [file.name for file in block.files] == ["0.npy", "1.npy"]


def test_a_file_waits_until_the_other_dataset_has_it_too(tmp_path: Path) -> None:
    path = make_output(make_output(tmp_path / "o.h5", [2, 2], "/X"), [2, 2], "/y")
    with h5py.File(path, "a") as file:
        second = file[layout.records_path("/y")][1]
        file[layout.records_path("/y")].resize(1, axis=0)

    with (
        open_tail(path, ["/X", "/y"], timeout=0) as tail,
        open_tail(path, ["/X", "/y"], "end", timeout=0) as from_the_end,
    ):
        before = [block.stop for block in tail], list(from_the_end)
        tail.close()
        from_the_end.close()
        with h5py.File(path, "a") as file:
            file[layout.records_path("/y")].resize(2, axis=0)
            file[layout.records_path("/y")][1] = second
        after = [block.start for block in tail], [block.start for block in from_the_end]

    assert before == ([2], [])
    assert after == ([2], [2])


@given(
    both=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30),
    at_once=st.integers(1, 7),
)
def test_files_of_one_dataset_only_are_left_out_wherever_they_are(
    tmp_path_factory: pytest.TempPathFactory, both: list[tuple[bool, bool]], at_once: int
) -> None:
    path = tmp_path_factory.mktemp("lockstep") / "o.h5"
    x = [n for n, (in_x, _) in enumerate(both, 1) if in_x]
    y = [n for n, (_, in_y) in enumerate(both, 1) if in_y]
    make_output(make_output(path, [1] * len(x), "/X", x), [1] * len(y), "/y", y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "RECORDS_AT_ONCE", at_once)
        found = pairs(path, max_rows=1)

    shared = [n for n in x if n in y]
    assert found == [(n, [x.index(n)], [y.index(n)]) for n in shared]


def test_lockstep_starts_at_the_file_that_has_the_row(tmp_path: Path) -> None:
    path = make_output(make_output(tmp_path / "o.h5", [2, 3, 2], "/X"), [1, 1, 1], "/y")

    found = pairs(path, 3)
    last = pairs(path, -1)

    assert found == [(2, [2, 3, 4, 5, 6], [1, 2])]
    assert last == [(3, [5, 6], [2])]


def test_large_files_come_in_pieces_if_both_have_as_many_rows(tmp_path: Path) -> None:
    path = make_output(make_output(tmp_path / "o.h5", [5, 2], "/X"), [5, 1], "/y")

    found = pairs(path, max_rows=2)

    assert [(x, y) for _, x, y in found] == [
        ([0, 1], [0, 1]),
        ([2, 3], [2, 3]),
        ([4], [4]),
        ([5, 6], [5]),
    ]


def test_a_position_of_other_datasets_is_refused(tmp_path: Path) -> None:
    path = make_output(make_output(tmp_path / "o.h5", [2], "/X"), [2], "/y")
    with open_tail(path, ["/X", "/y"]) as tail:
        next(tail)
        position = tail.position

    with open_tail(path, "/X", position) as tail, pytest.raises(UsageError, match="is of /X, /y"):
        next(tail)
