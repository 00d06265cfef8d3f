"""The lines of a CSV: read in bounded pieces, cut into cells, and faults found with their line.

What is held is a block and a line of ``LINE_BYTES_MAX`` at most; faults name their line and cell.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ingestd.errors import BadFile
from ingestd.model import counted

LINE_BYTES_MAX = 4 * 1024 * 1024
COLUMNS_MAX = 100_000
READ_BYTES_MIN = 64 * 1024
_CELL_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Dialect:
    """How lines are cut: ``delimiter`` None is any run of blanks; ``comment`` "" is none."""

    delimiter: str | None
    comment: str
    encoding: str

    def content(self, line: bytes) -> str:
        """``line`` without its comment and line end; empty where there is no row on it."""
        if self.comment:
            line = line.partition(self.comment.encode())[0]
        text = line.rstrip(b"\r\n").decode(self.encoding)
        return text if self.delimiter is not None else text.strip()

    def count_cells(self, content: str) -> int:
        """How many there are; of those that blanks part, ``COLUMNS_MAX`` + 1 at most."""
        if self.delimiter is None:
            return len(content.split(None, COLUMNS_MAX))
        if '"' in content:
            return len(self.cells(content, COLUMNS_MAX))
        return content.count(self.delimiter) + 1

    def cells(self, content: str, cells_max: int) -> list[str]:
        """The cells, blanks around them stripped; what follows ``cells_max`` comes as one more.

        One in double quotes may hold the delimiter.
        """
        cells = None
        if self.delimiter is not None and '"' in content:
            # Where quotes are wrong, or a cell is very long, they are characters as others.
            with contextlib.suppress(csv.Error):
                cells = next(
                    csv.reader(
                        [content], delimiter=self.delimiter, skipinitialspace=True, strict=True
                    )
                )
        return [cell.strip() for cell in cells or content.split(self.delimiter, cells_max)]


def whole_lines(
    file: BinaryIO, start: int, first_line: int, block_bytes: int
) -> Iterator[bytearray]:
    """The file from byte ``start`` on, which is line ``first_line``, in blocks of whole lines.

    A block has ``block_bytes`` or less, or is one line. Only the last may lack its newline.

    :raises BadFile: a line is longer than ``LINE_BYTES_MAX``.
    """
    buffer = bytearray()
    position, line, searched, ended = start, first_line, 0, False
    while True:
        while not ended and (len(buffer) < block_bytes or searched == len(buffer)):
            file.seek(position)
            piece = file.read(max(block_bytes - len(buffer), READ_BYTES_MIN))
            position += len(piece)
            ended = not piece
            buffer += piece
            searched = _before_newline(buffer, searched)
            if searched == len(buffer) > LINE_BYTES_MAX:
                raise _long_line(line)
        cut = buffer.rfind(b"\n", 0, block_bytes) + 1 or buffer.find(b"\n", block_bytes) + 1
        block = buffer[: cut or len(buffer)]
        if not block:
            return
        del buffer[: len(block)]
        searched = _before_newline(buffer, 0)
        line += block.count(b"\n")
        yield block


def _before_newline(buffer: bytearray, searched: int) -> int:
    """How many bytes stand before the first newline; all of them, if there is none."""
    found = buffer.find(b"\n", searched)
    return len(buffer) if found < 0 else found


def check_text(block: bytearray, first_line: int, encoding: str) -> None:
    """Refuse what is no text in ``encoding``."""
    if (at := block.find(b"\0")) >= 0:
        raise BadFile(
            f"text in {encoding}",
            f"line {first_line + block.count(10, 0, at)} holds a NUL byte",
            "Save the table as plain text in UTF-8 (not UTF-16, not a spreadsheet file), then "
            "drop it again.",
        )
    if block.isascii():
        return
    try:
        block.decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start
        raise BadFile(
            f"text in {encoding}",
            f"line {first_line + block.count(10, 0, at)} holds the bytes "
            f"{bytes(block[at : at + 4])!r}",
            "Set the right encoding ('format: csv' and 'options: {encoding: latin-1}') or save the "
            "file in UTF-8, then drop it again.",
        ) from error


def has_rows(block: bytearray, dialect: Dialect) -> bool:
    return any(dialect.content(line) for line in io.BytesIO(block))


def find_fault(
    block: bytearray,
    first_line: int,
    dialect: Dialect,
    columns: int,
    wanted: Mapping[int, np.dtype[Any]],
    missing: frozenset[str],
) -> BadFile | None:
    """The first row of ``block`` with another number of cells, or with a cell that is no value.

    ``wanted`` are dtypes by column index. None: every row is right.
    """
    for line, raw in enumerate(io.BytesIO(block), first_line):
        content = dialect.content(raw)
        if not content:
            continue
        count = dialect.count_cells(content)
        if count != columns:
            return _ragged(line, count, columns)
        cells = dialect.cells(content, columns)
        for column, dtype in wanted.items():
            cell = cells[column]
            lacks = cell in missing
            if (lacks and dtype.kind in "iu") or not (lacks or is_value(cell, dtype)):
                return _bad_cell(line, column, cell, dtype, lacks)
    return None


def is_number(cell: str) -> bool:
    """Whether ``cell`` is a number other than nan."""
    return is_value(cell, np.dtype(complex)) and not np.isnan(complex(cell))


def is_value(cell: str, dtype: np.dtype[Any]) -> bool:
    """Whether ``cell`` is a number that ``dtype`` holds, in the spelling that numpy reads; or text
    that does not get longer than it, in UTF-8."""
    if dtype.kind == "S":
        return len(cell.encode()) <= dtype.itemsize
    if not cell.isascii() or "_" in cell:
        return False
    try:
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            return limits.min <= int(cell) <= limits.max
        value = complex(cell) if dtype.kind == "c" else float(cell)
    except ValueError:
        return False
    with np.errstate(over="ignore"):
        overflows = bool(np.isinf(dtype.type(value)))
    return not overflows or "inf" in cell.lower()


def cut_short(where: str) -> BadFile:
    return BadFile(
        "a newline at the end of the last line",
        f"{where} has no newline: the file may be cut short",
        "Write the file again; if its writer never ends the last line, set "
        "'format: csv' and 'options: {final_newline: optional}'.",
    )


def shown(cell: str) -> str:
    """``cell`` in quotes, as a message shows it."""
    return repr(cell if len(cell) <= _CELL_SHOWN else f"{cell[:_CELL_SHOWN]}...")


def _ragged(line: int, count: int, columns: int) -> BadFile:
    return BadFile(
        f"{counted(columns, 'column')} in each row, as in the first",
        f"line {line} has {counted(count, 'column')}",
        "Correct the line; if the columns are cut wrongly, set 'format: csv' and "
        "'options: {delimiter: ...}'. Then drop the file again.",
    )


def _bad_cell(line: int, column: int, cell: str, dtype: np.dtype[Any], lacks: bool) -> BadFile:
    remedy = (
        "Correct the cell, then drop the file again. If the column is text or time: 'ingestd init "
        "--from FILE' writes a config that takes it."
    )
    if dtype.kind == "S":
        remedy = f"Set a wider dtype, S{len(cell.encode())} at least, then drop it again."
    elif lacks:
        remedy = "Set the dataset's 'dtype: float64' (nan where it is missing), then drop it again."
    elif not cell:
        remedy = "Write nan where a value is missing, or list '' in the option 'missing'."
    elif dtype.kind in "iu" and is_value(cell, np.dtype(float)):
        remedy = "Correct the cell, or set the dataset's 'dtype: float64', then drop it again."
    text = f"text of {dtype.itemsize} bytes or less" if dtype.kind == "S" else "a number"
    return BadFile(
        f"{text} in each cell" if dtype.kind == "S" else f"{text} of type {dtype} in each cell",
        f"line {line}, column {column + 1} {f'holds {shown(cell)}' if cell else 'is empty'}",
        remedy,
    )


def _long_line(line: int) -> BadFile:
    return BadFile(
        f"lines of {LINE_BYTES_MAX:,} bytes or less",
        f"line {line} is longer",
        "Save the table with a newline after each row; very wide rows go into a .npy.",
    )
