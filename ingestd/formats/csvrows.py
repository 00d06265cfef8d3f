"""Lines of a CSV as rows. Each cell asked for is a value of its column's dtype, or is refused.

numpy reads numbers, many times as fast as Python could. Lines with quotes, with text that is asked
for or with marks of missing values are cut here first.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingestd.errors import BadFile
from ingestd.formats import csvarrow, csvlines
from ingestd.formats.csvlines import Dialect

PARSED = "bBhHiIlLqQefdFD"
"""Numbers that text is read to, as NumPy's characters."""

# Older ones read '1.5' into an integer as 1, and what is too large as any number.
_NUMPY_REFUSES_INEXACT_INTEGERS = np.lib.NumpyVersion(np.__version__) >= "2.4.0"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns asked for, with their dtypes: numbers of ``PARSED``, or text of kind S.

    They become the fields of ``row``; None: one array of them all, of one dtype.
    """

    columns: Mapping[int, np.dtype[Any]]
    row: np.dtype[Any] | None = None
    flat: bool = False  # the one column, without an axis of its own

    @property
    def texts(self) -> dict[int, np.dtype[Any]]:
        """The columns that are text."""
        return {column: dtype for column, dtype in self.columns.items() if dtype.kind == "S"}

    def block_bytes(self, slab_bytes: int) -> int:
        """How much text makes ``slab_bytes`` of rows, or less.

        Two bytes of text, a digit and its delimiter, may become one value.
        """
        value_bytes = -(-sum(d.itemsize for d in self.columns.values()) // len(self.columns))
        most = min(slab_bytes // 2, 2 * slab_bytes // value_bytes)
        # A cell in Python takes some 50 bytes.
        return max(1, min(most, 256 << 10) if self.texts else most)


def parse(
    block: bytearray,
    line: int,
    dialect: Dialect,
    columns: int,
    wanted: Wanted,
    missing: frozenset[str],
) -> np.ndarray:
    """The rows of ``block``, which begins on line ``line``, has ``columns`` columns and a row.

    :raises BadFile: naming the line, and the cell if it is one.
    """

    def refuse_fault() -> None:
        fault = csvlines.find_fault(block, line, dialect, columns, wanted.columns, missing)
        if fault is not None:
            raise fault

    cut = bool(wanted.texts) or b'"' in block or any(map(csvlines.is_number, missing))
    integers = any(dtype.kind in "iu" for dtype in wanted.columns.values())
    if integers and not _NUMPY_REFUSES_INEXACT_INTEGERS:
        refuse_fault()
    try:
        read = None if cut else _try_numbers(block, dialect, columns, wanted, missing)
        if read is None:
            read = _cut(block, dialect, columns, wanted, missing)
    except ValueError as error:
        refuse_fault()
        raise BadFile(
            "a table of numbers",
            f"numpy cannot read the {block.count(10)} lines from line {line} on: {error}",
            "Save the table again, then drop it again.",
        ) from error
    # A number too large for the type is read as inf; no such cell says so.
    infinite = read.infinite()
    if infinite and infinite != block.lower().count(b"inf"):
        refuse_fault()
    return read.rows(wanted)


def _try_numbers(
    block: bytearray, dialect: Dialect, columns: int, wanted: Wanted, missing: frozenset[str]
) -> _Read | None:
    """What is read without cutting lines. None: a value may be missing."""
    read = csvarrow.read_numbers(block, dialect.delimiter, columns, wanted.columns)
    if read is not None:
        return _Read(read)
    try:
        return _Read(_numbers(block, dialect, columns, wanted.columns))
    except ValueError:
        if missing:
            return None
        raise


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read. ``numbers``: an axis of columns, or a field named by number for each.

    ``places``: which of those numbers a column is; None: all columns are there.
    """

    numbers: np.ndarray | None
    places: Mapping[int, int] | None = None
    texts: Mapping[int, np.ndarray] = field(default_factory=dict)

    def infinite(self) -> int:
        """How many of the numbers are infinite."""
        if self.numbers is None:
            return 0
        names = self.numbers.dtype.names
        arrays = [self.numbers] if names is None else [self.numbers[name] for name in names]
        return sum(int(np.isinf(a).sum()) for a in arrays if a.dtype.kind in "fc")

    def rows(self, wanted: Wanted) -> np.ndarray:
        """The columns as they are asked for."""
        if wanted.flat:
            return np.ascontiguousarray(self._column(next(iter(wanted.columns))))
        if wanted.row is None:
            if self.numbers is not None:
                return self.numbers
            return np.stack([self._column(column) for column in wanted.columns], axis=1)
        first = self._column(next(iter(wanted.columns)))
        rows = np.empty(len(first), wanted.row)
        for name, column in zip(wanted.row.names or (), wanted.columns, strict=True):
            rows[name] = self._column(column)
        return rows

    def _column(self, column: int) -> np.ndarray:
        if column in self.texts:
            return self.texts[column]
        assert self.numbers is not None
        place = column if self.places is None else self.places[column]
        return self.numbers[:, place] if self.numbers.ndim == 2 else self.numbers[str(place)]


def _numbers(
    block: bytes | bytearray, dialect: Dialect, columns: int, wanted: Mapping[int, np.dtype[Any]]
) -> np.ndarray:
    """The wanted columns, numbers all; see ``_Read``.

    :raises ValueError: a cell is none, or a row has another number of cells.
    """
    alike = csvarrow.alike(columns, wanted)
    with np.errstate(over="ignore"):
        rows = np.loadtxt(
            io.BytesIO(block),
            wanted[0] if alike else np.dtype(_fields(columns, wanted)),
            comments=dialect.comment or None,
            delimiter=dialect.delimiter,
            encoding=dialect.encoding,
            ndmin=2 if alike else 1,
        )
    if alike and rows.shape[1] != columns:
        raise ValueError(f"rows of {rows.shape[1]} cells")
    return rows


def _fields(columns: int, wanted: Mapping[int, np.dtype[Any]]) -> list[Any]:
    """All cells of a line as fields: numpy counts those too that are not kept, and may be text."""
    fields: list[Any] = []
    start = 0
    for column in [*sorted(wanted), columns]:
        if column > start:
            fields.append((f"before {column}", "U1", (column - start,)))
        if column < columns:
            fields.append((str(column), wanted[column]))
        start = column + 1
    return fields


def _cut(
    block: bytearray, dialect: Dialect, columns: int, wanted: Wanted, missing: frozenset[str]
) -> _Read:
    """The same, of lines that hold text, quotes or marks of missing values.

    :raises ValueError: as ``_numbers``; or text is too long.
    """
    texts: dict[int, list[bytes]] = {column: [] for column in wanted.texts}
    numbers = sorted(wanted.columns.keys() - texts)
    lines = []
    for raw in io.BytesIO(block):
        content = dialect.content(raw)
        if not content:
            continue
        cells = dialect.cells(content, columns)
        if len(cells) != columns:
            raise ValueError(f"a row of {len(cells)} cells")
        for column, found in texts.items():
            found.append(b"" if cells[column] in missing else cells[column].encode())
        values = ["nan" if cells[column] in missing else cells[column] for column in numbers]
        if "" in values:
            raise ValueError("an empty cell")  # alone on a line, numpy would see no row there
        lines.append(",".join(values))
    arrays = {column: _fixed(values, wanted.columns[column]) for column, values in texts.items()}
    if not numbers:
        return _Read(None, texts=arrays)
    plain = Dialect(",", "", "utf-8")
    dtypes = {place: wanted.columns[column] for place, column in enumerate(numbers)}
    read = _numbers("\n".join(lines).encode(), plain, len(numbers), dtypes)
    return _Read(read, {column: place for place, column in enumerate(numbers)}, arrays)


def _fixed(values: list[bytes], dtype: np.dtype[Any]) -> np.ndarray:
    if max(map(len, values)) > dtype.itemsize:
        raise ValueError(f"text longer than {dtype.itemsize} bytes")
    return np.array(values, dtype)
