"""Parquet, Arrow IPC and Feather files: each column a member, the whole table the member ``data``.

Rows are read row group by row group, record batch by record batch. Only columns of a fixed width
are taken; nulls and text are refused unless an option says what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np
from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import STILL_WRITTEN, ArrayInfo, FormatOptions
from ingestd.formats.arrowcolumns import Column, ColumnRules, column, values
from ingestd.formats.library import RATIO_MAX, LibraryFile, check_ratio, library_errors

_TABLE = "data"
_PARQUET, _ARROW = b"PAR1", b"ARROW1\x00\x00"
_EXPECTED = "a Parquet, Arrow IPC or Feather (version 2) file, whole"
_REMEDY = f"Write it again (pyarrow.parquet.write_table), then drop it again. {STILL_WRITTEN}"
_READ_BYTES = 256 * 1024
_THRIFT_BYTES_MAX = 16 << 20
_THRIFT_ITEMS_MAX = 1_000_000
TEXT_ROWS_MAX = 16 * 1024
"""Each text is a Python object for a moment, of 40 bytes and more."""


class ParquetOptions(FormatOptions):
    """``columns``: take these columns only; the others may be of any type.

    ``null``: the value that is stored for nulls (``.nan`` does for floats; texts become empty).

    ``string_bytes``: store text and binaries in so many bytes; a longer one refuses the file.

    ``ratio_max``: how many bytes of rows one byte of the file may promise, above 64 MiB.
    """

    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    null: float | int | None = None
    string_bytes: int | None = Field(default=None, ge=1, le=65_535)
    ratio_max: int = Field(default=RATIO_MAX, ge=1)


class Parquet:
    """The format ``parquet``. A run of ``slabs`` takes three slabs of memory, and the pages
    (Parquet) or the record batch (Arrow, Feather) that they stand in, as its writer chose."""

    name: str = "parquet"
    suffixes: tuple[str, ...] = (".parquet", ".pq", ".arrow", ".feather")
    extra: str | None = "parquet"
    requires: tuple[str, ...] = ("pyarrow",)
    Options: type[FormatOptions] = ParquetOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith((_PARQUET, _ARROW))

    def open(self, file: BinaryIO, options: FormatOptions) -> ParquetFile:
        """Read the schema and the number of rows; no row is read yet."""
        assert isinstance(options, ParquetOptions), options
        source = LibraryFile(file)
        head = source.read_at(0, len(_ARROW))
        if not self.sniff(head):
            raise _bad(f"it starts with {head!r}" if head else "the file is empty")
        with library_errors(source, _EXPECTED, _REMEDY):
            source.seek(0)
            table = _Pages(source) if head.startswith(_PARQUET) else _Batches(source)
            return ParquetFile(source, table, options)


class ParquetFile:
    """An open table."""

    plain: int | None = None

    def __init__(self, source: LibraryFile, table: _Table, options: ParquetOptions) -> None:
        self._source, self._table = source, table
        self._rules = ColumnRules(options.null, options.string_bytes)
        columns = _columns(table.schema, options, self._rules)
        row_bytes = sum(c.row_bytes for c in columns)
        if table.rows < 0:
            raise _bad(f"it has {table.rows} rows")
        check_ratio(table.rows * row_bytes, source.size_bytes, options.ratio_max, "parquet")
        whole = np.dtype([(c.name, c.dtype, c.shape) for c in columns])
        # A column that is called so itself goes before the table.
        self._columns = {_TABLE: columns} | {c.name: [c] for c in columns}
        self.members: Mapping[str, ArrayInfo] = {_TABLE: ArrayInfo(whole, (table.rows,))} | {
            c.name: ArrayInfo(c.dtype, (table.rows, *c.shape)) for c in columns
        }

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        info, columns = self.members[member], self._columns[member]
        step = max(1, slab_bytes // sum(c.row_bytes for c in columns))
        if any(c.dtype.kind == "S" for c in columns):
            step = min(step, TEXT_ROWS_MAX)
        batches, rows = self._table.batches(columns, step), 0
        while True:
            with library_errors(self._source, _EXPECTED, _REMEDY):
                batch = next(batches, None)
                if batch is None:
                    break
                # Arrow believes lengths and offsets in the file, and would read beyond its memory.
                batch.validate(full=True)
            for start in range(0, batch.num_rows, step):
                with library_errors(self._source, _EXPECTED, _REMEDY):
                    slab = self._slab(info, columns, batch.slice(start, step))
                rows += len(slab)
                yield slab
            del batch
        if rows != info.shape[0]:
            raise _bad(f"it has {rows:,} rows, and promises {info.shape[0]:,}")

    def _slab(self, info: ArrayInfo, columns: Sequence[Column], batch: Any) -> np.ndarray:
        slab = np.empty((batch.num_rows, *info.shape[1:]), info.dtype)
        for wanted in columns:
            target = slab[wanted.name] if info.dtype.names else slab
            target[...] = values(batch.column(wanted.name), wanted, self._rules)
        return slab


class _Table(Protocol):
    schema: Any
    rows: int

    def batches(self, columns: Sequence[Column], step: int) -> Iterator[Any]:
        """Record batches with these columns, in order."""
        ...


class _Pages:
    """A Parquet file."""

    def __init__(self, source: LibraryFile) -> None:
        import pyarrow.parquet

        self._file = pyarrow.parquet.ParquetFile(
            source,
            buffer_size=_READ_BYTES,  # page by page, not whole columns of a row group
            pre_buffer=False,
            thrift_string_size_limit=_THRIFT_BYTES_MAX,
            thrift_container_size_limit=_THRIFT_ITEMS_MAX,
            page_checksum_verification=True,
        )
        self.schema = self._file.schema_arrow
        self.rows: int = self._file.metadata.num_rows

    def batches(self, columns: Sequence[Column], step: int) -> Iterator[Any]:
        if self.rows:
            names = [c.name for c in columns]
            yield from self._file.iter_batches(step, columns=names, use_threads=False)


class _Batches:
    """An Arrow IPC file, which a Feather file of version 2 is too."""

    def __init__(self, source: LibraryFile) -> None:
        self._source = source
        file = self._opened()
        self.schema = file.schema
        self.rows: int = file.count_rows()

    def batches(self, columns: Sequence[Column], step: int) -> Iterator[Any]:
        file = self._opened(sorted(c.index for c in columns))
        for index in range(file.num_record_batches):
            yield file.get_batch(index)

    def _opened(self, fields: Sequence[int] = ()) -> Any:
        from pyarrow import ipc

        self._source.seek(0)
        options = ipc.IpcReadOptions(use_threads=False, included_fields=list(fields))
        return ipc.open_file(self._source, options=options)


def _columns(schema: Any, options: ParquetOptions, rules: ColumnRules) -> list[Column]:
    names = list(schema.names)
    wanted = names if options.columns is None else list(options.columns)
    for name in wanted:
        if names.count(name) != 1:
            raise BadFile(
                f"one column '{name}'",
                f"{names.count(name)} of the columns {', '.join(map(repr, names[:20]))}",
                "Correct the 'columns' of 'options', or give the columns names of their own, "
                "then drop it again.",
            )
    if not wanted:
        raise _bad("it has no columns")
    indices = [names.index(name) for name in wanted]
    return [column(index, schema.field(index), rules) for index in indices]


def _bad(found: str) -> BadFile:
    return BadFile(_EXPECTED, found, _REMEDY)
