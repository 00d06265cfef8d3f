"""One dataset of a source. What is declared here can live in HDF5 under SWMR."""

from __future__ import annotations

import math
import re
import warnings
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    StrictBool,
    WithJsonSchema,
    model_validator,
)

from ingestd.config.values import Compression, CompressionField

_DIMENSIONS_MAX = 31  # HDF5 allows 32, one of them is the growing axis
CHUNK_BYTES_MAX = 2**32 - 1  # HDF5's own limit


def drop_nulls(data: Any) -> Any:
    """A key with nothing after its colon keeps its default."""
    if isinstance(data, dict):
        return {key: value for key, value in data.items() if value is not None}
    return {} if data is None else data


def parse_dtype(value: Any) -> str:
    """The text of a NumPy dtype that a growing dataset can hold.

    :raises ValueError: NumPy does not know it, or HDF5 cannot hold it under SWMR.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no dtype; write one like float32, '<u2' or S16")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dtype = np.dtype(value)
    except (TypeError, ValueError, SyntaxError, OverflowError, MemoryError, Warning) as error:
        raise ValueError(
            f"{value!r} is no NumPy dtype ({error}); write one like float32, '<u2' or S16"
        ) from None
    if dtype.subdtype is not None:
        raise ValueError(f"{value!r} holds an array; write the shape as row_shape instead")
    refuse_dtype(dtype)
    return value


def refuse_dtype(dtype: np.dtype[Any]) -> None:
    """Nothing, for a dtype that a growing dataset can hold.

    :raises ValueError: with the reason and what to declare instead.
    """
    if dtype.subdtype is not None:
        refuse_dtype(dtype.subdtype[0])
    for name in dtype.names or ():
        refuse_dtype(dtype[name])
    if dtype.kind in "OT":
        raise ValueError(
            f"dtype {dtype} is of variable length, which readers of a growing HDF5 file cannot "
            "read; use a fixed width: S16 for text of up to 16 bytes"
        )
    if dtype.kind == "U":
        raise ValueError(
            f"dtype {dtype} is NumPy's unicode, which HDF5 cannot hold; use S{_width(dtype)} "
            "(bytes of UTF-8, fixed width)"
        )
    if dtype.kind in "mM":
        raise ValueError(f"dtype {dtype} has no HDF5 type; use int64 and a 'units' attribute")
    if dtype.itemsize == 0:
        raise ValueError(f"dtype {dtype} has no width; give it one, like {dtype.kind}16")


def fill_value(dtype: np.dtype[Any], fill: bool | int | float | str) -> np.generic:
    """``fill`` as one value of ``dtype``; a 0 is the empty value of any dtype.

    :raises ValueError: ``dtype`` cannot hold it exactly enough (a -1 in unsigned, a nan in int).
    """
    empty: np.generic = np.zeros(1, dtype)[0]
    if not isinstance(fill, str) and fill == 0:
        return empty
    kinds = {"b": bool, "i": int, "u": int, "f": int | float, "c": int | float, "S": str}
    wanted = kinds.get(dtype.kind)
    if wanted is None or not isinstance(fill, wanted) or isinstance(fill, bool) != (wanted is bool):
        raise ValueError(f"fill {fill!r} is no value of dtype {dtype}; write one that is, or 0")
    value = fill.encode() if isinstance(fill, str) else fill
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= int(fill) <= np.iinfo(dtype).max:
        raise ValueError(f"fill {fill!r} does not fit dtype {dtype}; write one that does, or 0")
    if isinstance(value, bytes) and len(value) > dtype.itemsize:
        raise ValueError(f"fill {fill!r} is longer than dtype {dtype}; make either fit")
    made: np.generic = np.array([value]).astype(dtype)[0]
    return made


def parse_row_shape(value: Any) -> tuple[int, ...]:
    """``[512, 512]`` as a tuple; ``[]`` for rows of one value.

    :raises ValueError: it is no list of whole numbers from 1.
    """
    sizes = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, int) or not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(
            f"{value!r} is no row shape; write the sizes of one row without the growing axis, "
            "like [512, 512], or [] for single values"
        )
    if len(sizes) > _DIMENSIONS_MAX or math.prod(sizes) > CHUNK_BYTES_MAX:
        raise ValueError(f"{value!r} is more than HDF5 can hold in one row (4 GiB, 31 axes)")
    return tuple(sizes)


def parse_chunk_rows(value: Any) -> int | None:
    """Rows of one chunk; ``auto`` as None.

    :raises ValueError: it is neither ``auto`` nor a whole number from 1.
    """
    if value is None or value == "auto":
        return None
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no number of rows; write auto, or a whole number from 1")
    return value


def parse_member(value: Any) -> str:
    """A member's name.

    :raises ValueError: it is no text, or a list, which a later version serves.
    """
    if isinstance(value, list) and value:
        raise ValueError(
            "several columns as one member are not supported yet; write a dataset for each column"
        )
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} names no member; write its name")
    return value


def parse_attrs(value: Any) -> dict[str, Any]:
    """Attributes by name: text, numbers, true or false, or flat lists of one of these.

    :raises ValueError: a value is something that no HDF5 attribute holds.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} are no attributes; write lines of 'name: value'")
    for name, one in value.items():
        several = one if isinstance(one, list) else [one]
        kinds = {float if type(item) is int else type(item) for item in several}
        if not name or "\0" in name or len(kinds) != 1 or not kinds <= {str, float, bool}:
            raise ValueError(
                f"attribute {name!r} is {one!r}; write text, a number, true, false, or a list "
                "of one of these"
            )
        if any(type(item) is int and not -(2**63) <= item < 2**64 for item in several):
            raise ValueError(f"attribute {name!r} is {one!r}, more than 64 bits; write it as text")
    return value


def parse_place(value: Any) -> str:
    """``append``, or a capture in braces.

    :raises ValueError: it is neither.
    """
    if isinstance(value, dict) and len(value) == 1:
        name = next(iter(value))
        raise ValueError(f"braces without quotes are YAML's own; write place: '{{{name}}}'")
    if value != "append" and not (isinstance(value, str) and re.fullmatch(r"\{\w+\}", value)):
        raise ValueError(f"{value!r} is no place; write append, or a number captured: '{{seq}}'")
    return str(value)


def parse_fill(value: Any) -> Any:
    """One number, text or truth value.

    :raises ValueError: it is a list or mapping.
    """
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"{value!r} is no fill value; write one number, like 0 or .nan")
    return value


Attrs = Annotated[dict[str, Any], PlainValidator(parse_attrs), WithJsonSchema({"type": "object"})]


class Dataset(BaseModel, extra="forbid", frozen=True):
    """A dataset of the output that grows along axis 0, one row after the other."""

    member: Annotated[
        str | None, PlainValidator(parse_member), WithJsonSchema({"type": ["string", "null"]})
    ] = Field(
        None,
        description="Member of the file: npz key, or csv column; null: the dataset's name, or its "
        "only one",
    )
    dtype: Annotated[
        str | None, PlainValidator(parse_dtype), WithJsonSchema({"type": ["string", "null"]})
    ] = Field(None, description="NumPy dtype of the values, such as '<u2'; null: the first file's")
    row_shape: Annotated[
        tuple[int, ...] | None,
        PlainValidator(parse_row_shape),
        WithJsonSchema({"type": ["array", "null"], "items": {"type": "integer", "minimum": 1}}),
    ] = Field(None, description="Shape of one row, without axis 0; null: the first file's")
    stack: StrictBool = Field(
        False, description="true: a file's whole array is one row; false: its axis 0 holds rows"
    )
    place: Annotated[
        str,
        PlainValidator(parse_place),
        WithJsonSchema({"type": "string", "pattern": r"^(append|\{\w+\})$"}),
    ] = Field(
        "append",
        description="Where rows go: append puts them after the last; a number captured, '{seq}', "
        "is the index of the file's first row",
    )
    fill: Annotated[
        bool | int | float | str,
        PlainValidator(parse_fill),
        WithJsonSchema({"type": ["boolean", "number", "string"]}),
    ] = Field(0, description="Value of rows that are not yet written")
    chunk_rows: Annotated[
        int | None,
        PlainValidator(parse_chunk_rows),
        WithJsonSchema({"oneOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
    ] = Field(
        None,
        description="Rows in one chunk, HDF5's unit of storage; auto: by the row's size "
        "and the first file's rows",
        json_schema_extra={"default": "auto"},
    )
    compression: CompressionField = Field(
        default_factory=lambda: Compression("none"),
        description="Filter of the chunks, 'name' or 'name:level'",
        json_schema_extra={"default": "none"},
    )
    attrs: Attrs = Field(
        default_factory=dict, description="Attributes of the dataset: units, long_name, ..."
    )

    @model_validator(mode="before")
    @classmethod
    def _nulls(cls, data: Any) -> Any:
        return drop_nulls(data)

    @property
    def numpy_dtype(self) -> np.dtype[Any] | None:
        """The declared dtype, or None: it is the first file's."""
        return None if self.dtype is None else np.dtype(self.dtype)

    @property
    def place_capture(self) -> str | None:
        """Name of the capture that gives a file's first row, or None: rows are appended."""
        return self.place[1:-1] if self.place.startswith("{") else None

    @property
    def row_bytes(self) -> int | None:
        """Bytes of one row, or None while dtype or shape are not declared."""
        dtype = self.numpy_dtype
        if dtype is None or self.row_shape is None:
            return None
        return dtype.itemsize * math.prod(self.row_shape)


def _width(dtype: np.dtype[Any]) -> int:
    return max(16, dtype.itemsize // 4)
