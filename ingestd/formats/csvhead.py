"""The first rows of a CSV: its delimiter, its columns and their names, before a number is read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

import numpy as np

from ingestd.errors import BadFile
from ingestd.formats.csvlines import (
    COLUMNS_MAX,
    Dialect,
    check_text,
    is_value,
    shown,
    whole_lines,
)

AUTO = "auto"
_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 64 * 1024
_FLOAT, _COMPLEX = np.dtype(np.float64), np.dtype(np.complex128)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the table lies: its rows of numbers begin at byte ``start``, on line ``line``."""

    dialect: Dialect
    columns: int
    names: tuple[str, ...]
    start: int
    line: int

    def columns_by_name(self) -> dict[str, int]:
        """Column indices by name, without names that are empty or stand twice: they mean none."""
        seen: dict[str, int | None] = {}
        for column, name in enumerate(self.names):
            seen[name] = None if name in seen else column
        return {name: column for name, column in seen.items() if name and column is not None}


@dataclass(frozen=True, slots=True)
class _Row:
    """A line with cells on it: its number, its text, and where it starts and ends, in bytes."""

    line: int
    start: int
    end: int
    content: str


def read_layout(
    file: BinaryIO,
    dialect: Dialect,
    *,
    skip: int,
    header: bool | None,
    missing: frozenset[str],
    skip_after: int = 0,
) -> Layout:
    """Read the first rows; ``dialect.delimiter`` may be ``auto``, ``header`` None looks at them.

    ``skip_after`` rows below the names hold none of the values (their units, say).

    :raises BadFile: there is no row, or it cannot be told whether the first one holds names.
    """
    rows = _rows(file, dialect, skip)
    first = next(rows, None)
    if first is None:
        raise no_rows("the file holds no row")
    second = next(rows, first)
    if dialect.delimiter == AUTO:
        dialect = replace(dialect, delimiter=_guess_delimiter(second.content))
    if dialect.count_cells(first.content) > COLUMNS_MAX:
        raise BadFile(
            f"{COLUMNS_MAX:,} columns or fewer",
            f"line {first.line} has more columns",
            "Save rows this wide as .npy, then drop that.",
        )
    cells = dialect.cells(first.content, COLUMNS_MAX)
    if header is None:
        header = _is_header(first.line, [cell for cell in cells if cell not in missing])
    if header:
        last = [first, second, *islice(rows, max(0, skip_after - 1))][skip_after]
        return Layout(dialect, len(cells), tuple(cells), last.end, last.line + 1)
    return Layout(dialect, dialect.count_cells(first.content), (), first.start, first.line)


def rows_from(file: BinaryIO, layout: Layout) -> Iterator[_Row]:
    """The rows of values."""
    return _rows(file, layout.dialect, layout.line - 1)


def looks_numeric(head: bytes) -> bool:
    """Whether the second whole row of ``head``, or the only one, is numbers."""
    if b"\0" in head:
        return False
    dialect = Dialect(AUTO, "#", "latin-1")
    lines = head.removeprefix(_BOM).split(b"\n")[:-1]
    rows = [content for line in lines if (content := dialect.content(line))][:2]
    if not rows:
        return False
    cells = replace(dialect, delimiter=_guess_delimiter(rows[-1])).cells(rows[-1], len(head))
    return all(is_value(cell, _FLOAT) for cell in cells)


def no_rows(found: str) -> BadFile:
    return BadFile(
        "a row of names or numbers at least",
        found,
        "Write the table again; if it was still being written, let it settle longer.",
    )


def _rows(file: BinaryIO, dialect: Dialect, skip: int) -> Iterator[_Row]:
    file.seek(0)
    position = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
    line = 1
    for block in whole_lines(file, position, line, _HEAD_BYTES):
        for raw in io.BytesIO(block):
            if line > skip:
                check_text(bytearray(raw), line, dialect.encoding)
                if content := dialect.content(raw):
                    yield _Row(line, position, position + len(raw), content)
            position += len(raw)
            line += 1


def _guess_delimiter(row: str) -> str | None:
    for delimiter in "\t;,":
        if delimiter in row:
            return delimiter
    return None if len(row.split(None, 1)) > 1 else ","


def _is_header(line: int, cells: list[str]) -> bool:
    numbers = [cell for cell in cells if is_value(cell, _COMPLEX)]
    words = [cell for cell in cells if cell and not is_value(cell, _COMPLEX)]
    if words and all(word[0] in "0123456789+-." for word in words):
        numbers = numbers or words  # 12:30, 0x10, 1e999: more likely data than names
    if numbers and words:
        raise BadFile(
            "only names or only numbers in the first row",
            f"line {line} holds {shown(words[0])}, which may be a name or a mistaken number",
            "If these are the columns' names, set 'format: csv' and 'options: {header: true}'; "
            "else correct the cell. Then drop the file again.",
        )
    return bool(words)
