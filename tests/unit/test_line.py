"""Places in the line sort as the files do, and each tells its file."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from flows import make_source
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model import DropFile, Fingerprint
from ingestd.pipeline.line import file_at, natural, places

NAMES = st.text(alphabet="ab019٣²_. é\udcff", min_size=1, max_size=8)
TIMES = st.one_of(st.integers(-3, 3), st.integers(-(2**70), 2**70))

ORDERS = {
    "arrival": lambda stat, name, captures: stat.st_ctime_ns,
    "mtime": lambda stat, name, captures: stat.st_mtime_ns,
    "name": lambda stat, name, captures: name,
    "{n}": lambda stat, name, captures: captures["n"],
}


def in_turn(name: str) -> list[Any]:
    """Texts and numbers in turn: what a natural order is, by Python's own comparison."""
    parts: list[Any] = re.split(r"(\d+)", name)
    parts[1::2] = map(int, parts[1::2])
    return parts


def a_stat(mtime_ns: int, ctime_ns: int, size: int = 0, inode: int = 0) -> os.stat_result:
    seconds = {"st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns}
    return os.stat_result((0, inode, 0, 0, 0, 0, size, 0, 0, 0), seconds)


@pytest.mark.parametrize("order", ORDERS)
@given(
    files=st.lists(
        st.tuples(
            NAMES,
            st.integers(-3, 3) | st.integers(-(2**63), 2**65),
            st.integers(-3, 3) | st.integers(-(2**63), 2**65),
            st.integers(0, 12) | st.integers(0, 2**63 - 1),
        ),
        max_size=8,
        unique_by=lambda file: file[0],
    )
)
def test_places_sort_as_order_then_natural_name(tmp_path_factory, order, files) -> None:
    place = places(_source(tmp_path_factory, order))
    known = {}
    for name, mtime, ctime, number in files:
        stat, captures = a_stat(mtime, ctime), {"n": number}
        sorted_by = (ORDERS[order](stat, name, captures), in_turn(name), name)
        known[place(stat, name, captures)] = sorted_by

    assert [known[one] for one in sorted(known)] == sorted(known.values())


def _source(factory: pytest.TempPathFactory, order: str) -> Any:
    match = "{n:d}.npy" if order == "{n}" else "auto"
    return make_source(factory.getbasetemp(), order=order, match=match)


@given(NAMES, TIMES, st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1))
def test_a_place_tells_its_file(tmp_path_factory, name, time_ns, size, inode) -> None:
    place = places(_source(tmp_path_factory, "mtime"))
    stat = a_stat(time_ns, time_ns, size, inode)

    file = file_at(place(stat, name, {}), "s")

    assert file == DropFile("s", name, Fingerprint.of(stat))


def test_natural_names_count() -> None:
    found = ["b10", "b9", "b1", "b", "a100", "b1a", "b!", "bc", "10", "9"]

    ordered = sorted(found, key=natural)

    assert ordered == ["9", "10", "a100", "b", "b1", "b1a", "b9", "b10", "b!", "bc"]
