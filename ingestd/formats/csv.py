"""``.csv`` and ``.tsv``: a table, as member ``data``, and its named columns, alone or several.

Every row has the same number of columns and every cell asked for is of its column's type, or the
file is refused with the line and the cell.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from ingestd.config import columns_of
from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, FormatOptions, csvhead, csvlines
from ingestd.formats.csvhead import Layout
from ingestd.formats.csvlines import Dialect
from ingestd.formats.csvrows import PARSED, Wanted, parse

_ALL = "data"
_FLOAT = np.dtype(np.float64)
_ENCODINGS = re.compile(r"utf-8(-sig)?|ascii|iso8859-\d+|cp(125\d|437|850)|koi8-[ru]|mac-roman")


class CsvOptions(FormatOptions):
    """How the text is cut.

    - ``delimiter``: one character, ``whitespace``, or ``auto`` (by the first row: tab, semicolon,
      comma, else blanks).
    - ``comment``: what follows this character on a line is left out; empty: nothing is.
    - ``skip``: lines to leave out at the start.
    - ``header``: whether the first row holds names; ``auto``: if none of its cells is a number.
    - ``skip_after_header``: rows to leave out below the names: their units, say.
    - ``missing``: cells that say that there is no value, such as ``["", "NA"]``: nan for floats,
      empty for text; an integer cannot be missing.
    - ``final_newline``: ``required`` refuses a file whose last line has none, as it may be cut
      short. A cut at a line's end cannot be seen.
    """

    delimiter: str = "auto"
    comment: str = "#"
    skip: int = Field(default=0, ge=0)
    header: Literal["auto"] | bool = "auto"
    skip_after_header: int = Field(default=0, ge=0, le=100)
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    final_newline: Literal["required", "optional"] = "required"

    @field_validator("delimiter")
    @classmethod
    def _delimiter_cuts(cls, value: str) -> str:
        if value in ("auto", "whitespace") or (_is_mark(value) and value not in "+-.\"'"):
            return value
        raise ValueError("is no delimiter; take one character such as ',' or '\\t', or whitespace")

    @field_validator("missing")
    @classmethod
    def _missing_are_cells(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(cell != cell.strip() for cell in value):
            raise ValueError("holds blanks around a cell; these are left out, so write it without")
        return value

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

    numpy's parser of text needs the interpreter's lock: several files do not parse in parallel,
    unless pyarrow reads them (``csvarrow``).
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
            missing=frozenset(options.missing),
            skip_after=options.skip_after_header,
        )
        newline_required = options.final_newline == "required"
        if newline_required and not _ends_line(file, size_bytes):
            raise csvlines.cut_short("the last line")
        return CsvFile(file, layout, options.missing, newline_required=newline_required)


class CsvFile:
    """An open table."""

    plain: int | None = None

    def __init__(
        self, file: BinaryIO, layout: Layout, missing: Iterable[str], *, newline_required: bool
    ) -> None:
        self._file, self._layout = file, layout
        self._newline_required = newline_required
        self._missing = frozenset(missing)
        self._members = _Members(layout)

    @property
    def members(self) -> Mapping[str, ArrayInfo]:
        """``data``: all columns; each column by its name; and lists of names, by their key.

        Not by a name that is empty, stands twice, or is ``data``.
        """
        return self._members

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        """As the protocol says; ``dtype`` is heeded if it is of numbers or of text (S)."""
        wanted = self._wanted(member, dtype)
        layout = self._layout
        line = layout.line
        block_bytes = wanted.block_bytes(slab_bytes)
        for block in csvlines.whole_lines(self._file, layout.start, line, block_bytes):
            lines = block.count(b"\n")
            if self._newline_required and not block.endswith(b"\n"):
                raise csvlines.cut_short(f"line {line + lines}")
            csvlines.check_text(block, line, layout.dialect.encoding)
            if csvlines.has_rows(block, layout.dialect):
                yield parse(block, line, layout.dialect, layout.columns, wanted, self._missing)
            line += lines

    def _wanted(self, member: str, dtype: np.dtype[Any] | None) -> Wanted:
        if member == _ALL:
            return Wanted(dict.fromkeys(range(self._layout.columns), _read_as(dtype)))
        if member in self._members.columns:
            return Wanted({self._members.columns[member]: _read_as(dtype)}, flat=True)
        dtype = dtype or self._members[member].dtype
        columns = [self._members.columns[name] for name in columns_of(member)]
        fields = [(name, _read_as(dtype[name])) for name in dtype.names or ()]
        types = [field for _, field in fields]
        return Wanted(dict(zip(columns, types, strict=True)), np.dtype(fields))


class _Members(Mapping[str, ArrayInfo]):
    """All columns as ``data``, each by its name, and any list of them as rows with fields."""

    def __init__(self, layout: Layout) -> None:
        self.columns = layout.columns_by_name()
        self._named = dict.fromkeys(self.columns, ArrayInfo(_FLOAT, (None,)))
        self._named[_ALL] = ArrayInfo(_FLOAT, (None, layout.columns))

    def __getitem__(self, member: str) -> ArrayInfo:
        if member in self._named:
            return self._named[member]
        columns = columns_of(member)
        if columns and self.columns.keys() >= set(columns):
            return ArrayInfo(np.dtype([(name, _FLOAT) for name in columns]), (None,))
        raise KeyError(member)

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


def _read_as(dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    """What text is read to where ``dtype`` is wished for.

    :raises BadFile: a cell cannot be one.
    """
    if dtype is not None and (dtype.names or dtype.subdtype):
        raise BadFile(
            "a dtype without fields for each column",
            f"{dtype} for one",
            "List the columns in 'member' ([time, x, y]), then a dtype for each",
        )
    parsed = dtype is not None and (dtype.char in PARSED or dtype.kind == "S")
    return dtype if dtype is not None and parsed else _FLOAT


def _ends_line(file: BinaryIO, size_bytes: int) -> bool:
    file.seek(size_bytes - 1)
    return file.read(1) == b"\n"


def _is_mark(value: str) -> bool:
    return len(value) == 1 and value.isascii() and not value.isalnum() and value not in "\r\n\0_"
