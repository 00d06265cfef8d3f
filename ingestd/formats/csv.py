"""``.csv`` and ``.tsv``: a table of numbers, as member ``data``, and each named column by its name.

Every row has the same number of columns and every cell asked for is a number, or the file is
refused with the line and the cell.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, FormatOptions, csvhead, csvlines
from ingestd.formats.csvhead import Layout
from ingestd.formats.csvlines import Dialect

_ALL = "data"
_FLOAT = np.dtype(np.float64)
_ENCODINGS = re.compile(r"utf-8(-sig)?|ascii|iso8859-\d+|cp(125\d|437|850)|koi8-[ru]|mac-roman")
_PARSED = "bBhHiIlLqQefdFD"
# Older ones read '1.5' into an integer as 1, and what is too large as any number.
_NUMPY_REFUSES_INEXACT_INTEGERS = np.lib.NumpyVersion(np.__version__) >= "2.4.0"


class CsvOptions(FormatOptions):
    """How the text is cut.

    - ``delimiter``: one character, ``whitespace``, or ``auto`` (by the first row: tab, semicolon,
      comma, else blanks).
    - ``comment``: what follows this character on a line is left out; empty: nothing is.
    - ``skip``: lines to leave out at the start.
    - ``header``: whether the first row holds names; ``auto``: if none of its cells is a number.
    - ``final_newline``: ``required`` refuses a file whose last line has none, as it may be cut
      short. A cut at a line's end cannot be seen.
    """

    delimiter: str = "auto"
    comment: str = "#"
    skip: int = Field(default=0, ge=0)
    header: Literal["auto"] | bool = "auto"
    encoding: str = "utf-8"
    final_newline: Literal["required", "optional"] = "required"

    @field_validator("delimiter")
    @classmethod
    def _delimiter_cuts(cls, value: str) -> str:
        if value in ("auto", "whitespace") or (_is_mark(value) and value not in "+-.\"'"):
            return value
        raise ValueError("is no delimiter; take one character such as ',' or '\\t', or whitespace")

    @field_validator("comment")
    @classmethod
    def _comment_is_one_character(cls, value: str) -> str:
        if not value or (_is_mark(value) and value not in "+-., \t\v\f"):
            return value
        raise ValueError("must be one character such as '#', or empty")

    @field_validator("encoding")
    @classmethod
    def _encoding_extends_ascii(cls, value: str) -> str:
        try:
            name = codecs.lookup(value).name
        except LookupError:
            name = ""
        if not _ENCODINGS.fullmatch(name):
            raise ValueError("is no text encoding that extends ASCII; take utf-8 or latin-1")
        return name.removesuffix("-sig")

    @model_validator(mode="after")
    def _marks_differ(self) -> CsvOptions:
        if self.comment == self.delimiter:
            raise ValueError(f"delimiter and comment are both {self.comment!r}; change one")
        return self


class Csv:
    """The format ``csv``. A run of ``slabs`` takes four slabs of memory and 16 MiB at the most.

    numpy's parser of text needs the interpreter's lock: several files do not parse in parallel.
    """

    name: str = "csv"
    suffixes: tuple[str, ...] = (".csv", ".tsv")
    extra: str | None = None
    requires: tuple[str, ...] = ()
    Options: type[FormatOptions] = CsvOptions

    def sniff(self, head: bytes) -> bool:
        return csvhead.looks_numeric(head)

    def open(self, file: BinaryIO, options: FormatOptions) -> CsvFile:
        """Read the first rows of ``file``: its delimiter, its columns, its names."""
        assert isinstance(options, CsvOptions), options
        size_bytes = file.seek(0, 2)
        if not size_bytes:
            raise csvhead.no_rows("the file is empty")
        delimiter: str | None = options.delimiter
        if delimiter == "whitespace":
            delimiter = None
        layout = csvhead.read_layout(
            file,
            Dialect(delimiter, options.comment, options.encoding),
            skip=options.skip,
            header=None if options.header == "auto" else options.header,
        )
        newline_required = options.final_newline == "required"
        if newline_required and not _ends_line(file, size_bytes):
            raise csvlines.cut_short("the last line")
        return CsvFile(file, layout, newline_required=newline_required)


class CsvFile:
    """An open table."""

    plain: int | None = None

    def __init__(self, file: BinaryIO, layout: Layout, *, newline_required: bool) -> None:
        self._file, self._layout = file, layout
        self._newline_required = newline_required
        self._columns = layout.columns_by_name()
        self._members = dict.fromkeys(self._columns, ArrayInfo(_FLOAT, (None,)))
        self._members[_ALL] = ArrayInfo(_FLOAT, (None, layout.columns))

    @property
    def members(self) -> Mapping[str, ArrayInfo]:
        """``data``: all columns; and each column by its name.

        Not by a name that is empty, stands twice, or is ``data``.
        """
        return self._members

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        """As the protocol says; ``dtype`` is heeded if it is integer, float or complex."""
        dtype = dtype if dtype is not None and dtype.char in _PARSED else _FLOAT
        layout = self._layout
        column = None if member == _ALL else self._columns[member]
        # Two bytes of text, a digit and its delimiter, may become one value.
        block_bytes = max(1, min(slab_bytes // 2, 2 * slab_bytes // dtype.itemsize))
        line = layout.line
        for block in csvlines.whole_lines(self._file, layout.start, line, block_bytes):
            lines = block.count(b"\n")
            if self._newline_required and not block.endswith(b"\n"):
                raise csvlines.cut_short(f"line {line + lines}")
            csvlines.check_text(block, line, layout.dialect.encoding)
            if csvlines.has_rows(block, layout.dialect):
                yield _parse(block, line, layout, column, dtype)
            line += lines


def _parse(
    block: bytearray, line: int, layout: Layout, column: int | None, dtype: np.dtype[Any]
) -> np.ndarray:
    dialect, columns = layout.dialect, layout.columns
    wanted = range(columns) if column is None else range(column, column + 1)
    if dtype.kind in "iu" and not _NUMPY_REFUSES_INEXACT_INTEGERS:
        _refuse_fault(block, line, dialect, columns, wanted, dtype)
    parsed = dtype if column is None else _one_column(column, columns, dtype)
    try:
        with np.errstate(over="ignore"):  # found below
            rows = np.loadtxt(
                io.BytesIO(block),
                parsed,
                comments=dialect.comment or None,
                delimiter=dialect.delimiter,
                encoding=dialect.encoding,
                ndmin=2 if column is None else 1,
            )
    except ValueError as error:
        _refuse_fault(block, line, dialect, columns, wanted, dtype)
        raise BadFile(
            f"a table of {dtype} numbers",
            f"numpy cannot read the {block.count(10)} lines from line {line} on: {error}",
            "Save the table again, then drop it again.",
        ) from error
    if column is not None:
        rows = np.ascontiguousarray(rows["wanted"])
    elif rows.shape[1] != columns:
        _refuse_fault(block, line, dialect, columns, wanted, dtype)
    # A number too large for the type is read as inf; no such cell says so.
    if dtype.kind in "fc" and np.isinf(rows).sum() != block.lower().count(b"inf"):
        _refuse_fault(block, line, dialect, columns, wanted, dtype)
    return rows


def _refuse_fault(
    block: bytearray,
    line: int,
    dialect: Dialect,
    columns: int,
    wanted: range,
    dtype: np.dtype[Any],
) -> None:
    fault = csvlines.find_fault(block, line, dialect, columns, wanted, dtype)
    if fault is not None:
        raise fault


def _one_column(column: int, columns: int, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A row of which one cell is kept: numpy counts the others, and they may be text."""
    after = columns - column - 1
    fields: list[Any] = [("wanted", dtype)]
    if column:
        fields.insert(0, ("before", "U1", (column,)))
    if after:
        fields.append(("after", "U1", (after,)))
    return np.dtype(fields)


def _ends_line(file: BinaryIO, size_bytes: int) -> bool:
    file.seek(size_bytes - 1)
    return file.read(1) == b"\n"


def _is_mark(value: str) -> bool:
    return len(value) == 1 and value.isascii() and not value.isalnum() and value not in "\r\n\0_"
