"""The nouns keep their own invariants."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from ingestd.model import DropFile, Fingerprint, RowRange, RowType, shown


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3)])
def test_a_row_range_that_runs_backwards_is_our_own_bug(start: int, stop: int) -> None:
    with pytest.raises(AssertionError):
        RowRange(start, stop)


def test_the_length_of_a_row_range_is_its_rows() -> None:
    assert len(RowRange(3, 10)) == 7
    assert len(RowRange(3, 3)) == 0


def test_nouns_cannot_be_changed() -> None:
    rows = RowRange(0, 1)

    with pytest.raises(dataclasses.FrozenInstanceError):
        rows.start = 5  # type: ignore[misc]


def test_row_bytes_do_not_overflow_where_a_header_promises_too_much() -> None:
    row_type = RowType(np.dtype("f8"), (2**40, 2**40))

    assert row_type.row_bytes == 8 * 2**80


def test_a_row_of_one_value_has_the_bytes_of_its_dtype() -> None:
    assert RowType(np.dtype("u2"), ()).row_bytes == 2
    assert str(RowType(np.dtype("u2"), (3,))) == "uint16 (3,)"


def test_a_replaced_file_has_another_fingerprint(tmp_path) -> None:
    path, new = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"x")
    new.write_bytes(b"x")
    stat = path.stat()
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    before = Fingerprint.of(stat)

    new.rename(path)

    assert Fingerprint.of(path.stat()) != before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.npy", "a b.npy"),
        ("größe.npy", "größe.npy"),
        ("two\nlines", "two\\nlines"),
        (os.fsdecode(b"\xff\xfe.npy"), "\\xff\\xfe.npy"),
        ("\x1b[31mred", "\\x1b[31mred"),
    ],
)
def test_a_name_is_shown_on_one_line_of_printable_text(name: str, expected: str) -> None:
    file = DropFile("s", name, Fingerprint(0, 0, 0))

    assert shown(name) == str(file) == expected
    assert str(file).encode().isascii() or name == "größe.npy"
