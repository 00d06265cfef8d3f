"""The line that a source's files wait in, one string a file: half a million of them fit in memory.

A file's place in the line is its string's place among the strings: they sort as the files do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from ingestd.config import Source
from ingestd.model import DropFile, Fingerprint

_END = "\0"
"""Ends each part of a place: no file name holds it, and no character sorts before it."""

_LEAST = -(2**63)

Place = Callable[[os.stat_result, str, Mapping[str, str | int]], str]
"""A file's place in the line, given its stat result, name and captures."""


def places(source: Source) -> Place:
    """Places in the order of ``source``; files of one time or number go by their natural names."""
    order = _order(source)

    def place(stat: os.stat_result, name: str, captures: Mapping[str, str | int]) -> str:
        fingerprint = map(str, Fingerprint.of(stat))
        return _END.join((order(stat, name, captures), natural(name), name, *fingerprint))

    return place


def file_at(place: str, source: str) -> DropFile:
    """The file of ``source`` that has this place."""
    _, _, name, size, mtime_ns, inode = place.split(_END)
    return DropFile(source, name, Fingerprint(int(size), int(mtime_ns), int(inode)))


def _order(source: Source) -> Place:
    capture = source.order_capture
    if capture is not None:
        return lambda stat, name, captures: _sortable(int(captures[capture]))
    orders: dict[str, Place] = {
        # The kernel stamps a change of name or content alike; equal stamps go by name.
        "arrival": lambda stat, name, captures: _sortable(stat.st_ctime_ns),
        "name": lambda stat, name, captures: name,
        "mtime": lambda stat, name, captures: _sortable(stat.st_mtime_ns),
    }
    return orders[source.order]


def _sortable(value: int) -> str:
    # Times before 1970 are negative, and file systems know some that 64 bits do not hold.
    return f"{max(0, min(value - _LEAST, 10**20 - 1)):020}"


_DIGITS = re.compile(r"\d+")


def natural(name: str) -> str:
    """A sort key by which ``b9`` comes before ``b10``: each number stands behind its length."""
    return _DIGITS.sub(_number, name)


def _number(found: re.Match[str]) -> str:
    digits = str(int(found[0]))
    return f"\1{chr(len(digits))}{digits}"
