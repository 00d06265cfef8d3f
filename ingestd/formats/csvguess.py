"""What the columns of a CSV hold, by its first rows: for a first config, never for the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from ingestd.formats.csvhead import AUTO, read_layout, rows_from
from ingestd.formats.csvlines import Dialect, is_value

_ROWS = 1000
_TEXT_BYTES_MIN = 16
_FLOAT = np.dtype(np.float64)


@dataclass(frozen=True, slots=True)
class Guess:
    """``dtypes`` of the named columns, as the config writes them; ``options`` that they need."""

    dtypes: Mapping[str, str]
    options: Mapping[str, Any]


def guess(file: BinaryIO) -> Guess | None:
    """What it takes to read the table by its columns; None: it is a plain table of numbers.

    :raises BadFile: it is no table.
    """
    layout = read_layout(
        file, Dialect(AUTO, "#", "utf-8"), skip=0, header=None, missing=frozenset({""})
    )
    names = layout.columns_by_name()
    if not names:
        return None
    rows = [
        layout.dialect.cells(row.content, layout.columns)
        for row in islice(rows_from(file, layout), _ROWS)
    ]
    columns = {name: [row[at] for row in rows if at < len(row)] for name, at in names.items()}
    units = any(_has_unit(cells) for cells in columns.values())
    if units:
        columns = {name: cells[1:] for name, cells in columns.items()}
    missing = any("" in cells for cells in columns.values())
    dtypes = {name: _dtype(cells) for name, cells in columns.items()}
    if not units and not missing and set(dtypes.values()) <= {"f8"}:
        return None
    options: dict[str, Any] = {"missing": [""]} if missing else {}
    return Guess(dtypes, {**options, "skip_after_header": 1} if units else options)


def _has_unit(cells: list[str]) -> bool:
    """Whether the first cell is a word, and all others are numbers."""
    first, *others = cells or [""]
    numbers = [cell for cell in others if cell]
    return bool(first and numbers) and not _is_number(first) and all(map(_is_number, numbers))


def _dtype(cells: list[str]) -> str:
    texts = [cell for cell in cells if cell and not _is_number(cell)]
    if not texts:
        return "f8"
    # With room: the sample's are hardly the longest.
    return f"S{max(_TEXT_BYTES_MIN, 2 * max(len(cell.encode()) for cell in cells))}"


def _is_number(cell: str) -> bool:
    return is_value(cell, _FLOAT)
