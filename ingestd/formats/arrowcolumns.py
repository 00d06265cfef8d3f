"""Columns of Arrow as numpy arrays: which types are taken, as what, and how nulls are told.

Only columns of one width are taken; a value is never cut or invented without an option saying so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ingestd.errors import BadFile


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """``null`` stands for what is missing, ``string_bytes`` is the width of text, in bytes."""

    null: float | int | None = None
    string_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its place in the file's schema, its name, and what its values become."""

    index: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...] = ()

    @property
    def row_bytes(self) -> int:
        """Bytes of one of its values, after decoding."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=object))


def column(index: int, field: Any, rules: ColumnRules) -> Column:
    """What the values of an Arrow ``field`` become.

    :raises BadFile: they are of a type that no fixed-width dataset holds.
    """
    from pyarrow import types

    kind: Any = field.type
    shape: tuple[int, ...] = ()
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_fixed_size_list(kind):
        kind, shape = kind.value_type, (kind.list_size,)
    if _is_text(kind):
        if rules.string_bytes is None:
            raise BadFile(
                "columns of a fixed width",
                f"column '{field.name}' is of type {field.type}",
                "Set 'string_bytes: N' in 'options' to store text in N bytes, or name the columns "
                "to take in 'columns', then drop it again.",
            )
        return Column(index, field.name, np.dtype(f"S{rules.string_bytes}"), shape)
    dtype = _dtype(kind)
    if dtype is None or not dtype.itemsize or 0 in shape:
        raise BadFile(
            "columns of numbers, times, or binaries of a fixed width",
            f"column '{field.name}' is of type {field.type}",
            "Convert or flatten it, or name the columns to take in 'columns' of 'options', then "
            "drop it again.",
        )
    return Column(index, field.name, dtype, shape)


def values(array: Any, wanted: Column, rules: ColumnRules) -> np.ndarray:
    """The values of an Arrow ``array`` as ``wanted`` has them.

    :raises BadFile: some are null, or too long, and no option says what to do.
    """
    from pyarrow import types

    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_fixed_size_list(array.type):
        _refuse_nulls(array, wanted)
        array = array.flatten()
    if array.null_count:
        array = _filled(array, wanted, rules)
    if _is_text(array.type):
        flat = _text(array, wanted)
    elif types.is_fixed_size_binary(array.type):
        width = wanted.dtype.itemsize
        data = array.buffers()[1]
        flat = np.frombuffer(data, wanted.dtype, len(array), array.offset * width)
    elif types.is_time(array.type):
        flat = array.view(f"int{array.type.bit_width}").to_numpy(zero_copy_only=False)
    else:
        flat = array.to_numpy(zero_copy_only=False)
    return flat.astype(wanted.dtype, copy=False).reshape((-1, *wanted.shape))


def _dtype(kind: Any) -> np.dtype | None:
    from pyarrow import types

    if types.is_fixed_size_binary(kind) and not types.is_decimal(kind):
        return np.dtype(f"V{kind.byte_width}") if kind.byte_width else None
    if types.is_timestamp(kind):
        return np.dtype(f"M8[{kind.unit}]")
    if types.is_duration(kind):
        return np.dtype(f"m8[{kind.unit}]")
    if types.is_date(kind):
        return np.dtype("M8[D]" if types.is_date32(kind) else "M8[ms]")
    if types.is_time(kind):
        return np.dtype(f"i{kind.bit_width // 8}")
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        dtype: np.dtype = np.dtype(kind.to_pandas_dtype())
        return dtype
    return None


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_string_view(kind)
        or types.is_binary_view(kind)
    )


def _filled(array: Any, wanted: Column, rules: ColumnRules) -> Any:
    import pyarrow as pa

    if rules.null is None:
        _refuse_nulls(array, wanted)
    if _is_text(array.type):
        return array.fill_null(pa.scalar(b"", pa.binary()).cast(array.type))
    if pa.types.is_fixed_size_binary(array.type):
        return array.fill_null(pa.scalar(bytes(array.type.byte_width), array.type))
    try:
        null: Any = bool(rules.null) if wanted.dtype.kind == "b" else rules.null
        filler = pa.scalar(null, array.type)
        if filler.as_py() is not None and wanted.dtype.kind in "iu" and filler.as_py() != null:
            raise ValueError
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise BadFile(
            f"a 'null' that {array.type} holds",
            f"column '{wanted.name}' has nulls, and 'null' is {rules.null!r}",
            "Set a 'null' that fits every column, or name the columns to take in 'columns', "
            "then drop it again.",
        ) from None
    return array.fill_null(filler)


def _refuse_nulls(array: Any, wanted: Column) -> None:
    if array.null_count:
        raise BadFile(
            "a value in every row",
            f"column '{wanted.name}' has {array.null_count:,} nulls",
            "Set 'null: VALUE' in 'options' to store that in their place (.nan for floats), or "
            "fill them before, then drop it again.",
        )


def _text(array: Any, wanted: Column) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = array.cast(pa.large_binary())
    width = wanted.dtype.itemsize
    longest = pc.max(pc.binary_length(array)).as_py() or 0
    if longest > width:
        raise BadFile(
            f"text of {width} bytes or less ('string_bytes')",
            f"column '{wanted.name}' has one of {longest:,} bytes",
            f"Set 'string_bytes: {longest}' or more (and a new dataset), then drop it again.",
        )
    return np.array(array.to_pylist(), wanted.dtype)
