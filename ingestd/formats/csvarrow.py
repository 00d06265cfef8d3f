"""Blocks of decimal numbers, read by pyarrow where it is installed: several times as fast as by
numpy, and without the interpreter's lock.

It is asked only for what both read to the same values; all else, and every fault, is numpy's.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ingestd.journal import log

BLOCK_BYTES_MIN = 64 << 10
"""Below, importing pyarrow takes longer than numpy does."""

_COLUMN_BYTES_MIN = 2 << 10
"""pyarrow takes some 20 us for each column of a block."""

_DELIMITERS = frozenset(",;\t|")
_DECIMAL = b"0123456789+-.eE \r\n"


def read_numbers(
    block: bytearray,
    delimiter: str | None,
    columns: int,
    wanted: Mapping[int, np.dtype[Any]],
) -> np.ndarray | None:
    """The columns of ``wanted`` that ``block`` has among its ``columns``; None: ask numpy.

    An axis of columns where they are ``alike``, else a field named by number for each.
    """
    if len(block) < max(BLOCK_BYTES_MIN, _COLUMN_BYTES_MIN * columns):
        return None
    if delimiter is None or delimiter not in _DELIMITERS:
        return None
    if any(dtype.kind not in "fiu" or dtype.char == "g" for dtype in wanted.values()):
        return None
    if block.translate(None, _DECIMAL + delimiter.encode()):
        return None
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return None
    arrow = _arrow()
    if arrow is None:
        return None
    # numpy too makes a float32 of the float64 next to the text.
    types = {str(c): "float64" if d.kind == "f" else d.name for c, d in wanted.items()}
    try:
        table = arrow.csv.read_csv(
            arrow.BufferReader(arrow.py_buffer(block)),
            arrow.csv.ReadOptions(
                use_threads=False,
                block_size=len(block) + 1,
                column_names=[str(column) for column in range(columns)],
            ),
            arrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            arrow.csv.ConvertOptions(
                column_types=types, null_values=[], include_columns=list(types)
            ),
        )
    except arrow.ArrowException:
        return None
    whole = alike(columns, wanted)
    rows = (
        np.empty((table.num_rows, columns), wanted[0])
        if whole
        else np.empty(table.num_rows, [(str(column), dtype) for column, dtype in wanted.items()])
    )
    with np.errstate(over="ignore"):
        for column in wanted:
            target = rows[:, column] if whole else rows[str(column)]
            target[:] = _values(table.column(str(column)))
    return rows


def alike(columns: int, wanted: Mapping[int, np.dtype[Any]]) -> bool:
    """Whether all of the ``columns`` are wanted, and of one dtype."""
    return len(wanted) == columns and len(set(wanted.values())) == 1


def _values(column: Any) -> np.ndarray:
    # Not by its to_numpy, which imports pandas if that is there.
    values = column.combine_chunks()
    dtype = np.dtype(values.type.to_pandas_dtype())
    return np.frombuffer(values.buffers()[1], dtype, len(values), values.offset * dtype.itemsize)


@functools.cache
def _arrow() -> Any:
    try:
        importlib.import_module("pyarrow.csv")
        return importlib.import_module("pyarrow")
    except ImportError:
        return None
    # One that does not fit this numpy, say. Nobody asked for it.
    except Exception as error:  # noqa: BLE001
        log.warning("pyarrow cannot be imported; numpy reads all .csv files: %s", error)
        return None
