"""One dataset of a source. What is declared here can live in HDF5 under SWMR."""

from __future__ import annotations

import math
import re
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

from ingestd.config.columns import columns_key, columns_of
from ingestd.config.dtypes import Written, fields_of, make_dtype, parse_dtype
from ingestd.config.values import (
    FILTERS,
    Compression,
    CompressionField,
    parse_filters,
    refuse_filters,
)

_DIMENSIONS_MAX = 31  # HDF5 allows 32, one of them is the growing axis
CHUNK_BYTES_MAX = 2**32 - 1  # HDF5's own limit

LAYER_BYTES_MAX = 256 << 20
"""Rows of one layer of ``chunks`` have so many bytes at most, since they are held in memory."""


def drop_nulls(data: Any) -> Any:
    """A key with nothing after its colon keeps its default."""
    if isinstance(data, dict):
        return {key: value for key, value in data.items() if value is not None}
    return {} if data is None else data


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


def parse_chunks(value: Any) -> tuple[int, ...]:
    """``[16, 256, 256]`` as a tuple.

    :raises ValueError: it is no list of whole numbers from 1.
    """
    sizes = list(value) if isinstance(value, list | tuple) else []
    if not sizes or not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(
            f"{value!r} is no shape of a chunk; write rows, then a size for each axis of a row: "
            "[16, 256, 256]"
        )
    return tuple(sizes)


def refuse_chunks(chunks: tuple[int, ...], row_shape: tuple[int, ...], value_bytes: int) -> None:
    """Nothing, for chunks that rows of this shape can be cut into.

    :raises ValueError: with what to write instead.
    """
    if len(chunks) != 1 + len(row_shape) or any(
        size > most for size, most in zip(chunks[1:], row_shape, strict=True)
    ):
        fitting = [1, *(min(256, size) for size in row_shape)]
        raise ValueError(
            f"chunks {list(chunks)} do not fit rows of shape {list(row_shape)}; write rows, then "
            f"for each axis of a row its size or less, like {fitting}"
        )
    nbytes = chunks[0] * math.prod(row_shape) * value_bytes
    if nbytes > LAYER_BYTES_MAX:
        raise ValueError(
            f"chunks {list(chunks)} are filled {chunks[0]} rows at a time, {nbytes} bytes, which "
            f"are held in memory; write {max(1, LAYER_BYTES_MAX * chunks[0] // nbytes)} rows or "
            "fewer"
        )


def parse_member(value: Any) -> str:
    """A member's name; a list of columns as the name of the member that is all of them.

    :raises ValueError: it is neither, or a column stands twice.
    """
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(name, str) and name for name in several):
        raise ValueError(f"{value!r} names no member; write its name, or a list of columns")
    if len(set(several)) < len(several):
        raise ValueError(f"{value!r} names a column twice; write each once")
    return columns_key(value) if isinstance(value, list) else str(value)


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
        str | None,
        PlainValidator(parse_member),
        WithJsonSchema({"type": ["string", "array", "null"], "items": {"type": "string"}}),
    ] = Field(
        None,
        description="Member of the file: npz key, csv column, or a list of columns, the fields of "
        "a row; null: the dataset's name, or its only one",
    )
    dtype: Annotated[
        Written | None,
        PlainValidator(parse_dtype),
        WithJsonSchema({"type": ["string", "object", "null"]}),
    ] = Field(
        None,
        description="NumPy dtype of the values, such as '<u2', or {time: f8, name: S8} for fields; "
        "null: the first file's",
    )
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
    chunks: Annotated[
        tuple[int, ...] | None,
        PlainValidator(parse_chunks),
        WithJsonSchema({"type": ["array", "null"], "items": {"type": "integer", "minimum": 1}}),
    ] = Field(
        None,
        description="Shape of a chunk that is only a part of its rows, such as [16, 256, 256]; "
        "null: chunk_rows of them, or what auto makes of a large row",
    )
    compression: CompressionField = Field(
        default_factory=lambda: Compression("none"),
        description="Filter of the chunks, 'name' or 'name:level'",
        json_schema_extra={"default": "none"},
    )
    filters: Annotated[
        tuple[str, ...] | None,
        PlainValidator(parse_filters),
        WithJsonSchema({"type": ["array", "null"], "items": {"enum": list(FILTERS)}}),
    ] = Field(
        None,
        description="Filters beside the compression: shuffle, fletcher32 or scaleoffset; null: "
        "shuffle with gzip and lzf",
    )
    attrs: Attrs = Field(
        default_factory=dict, description="Attributes of the dataset: units, long_name, ..."
    )
    keys: StrictBool = Field(
        False,
        description="true: /ingestd/PATH/key and /ingestd/PATH/finished, for Diamond's swmr_tools",
    )

    @model_validator(mode="before")
    @classmethod
    def _nulls(cls, data: Any) -> Any:
        return drop_nulls(data)

    @model_validator(mode="after")
    def _keys_agree(self) -> Dataset:
        refuse_filters(self.filters, self.compression.name)
        if self.chunks is not None and self.chunk_rows is not None:
            raise ValueError("chunks and chunk_rows are both set; leave chunk_rows out")
        if self.keys and self.place_capture is not None:
            raise ValueError("keys are of rows that are appended; leave out keys, or place")
        if self.columns and self.dtype is not None:
            fields_of(self.columns, make_dtype(self.dtype))
        return self

    @property
    def numpy_dtype(self) -> np.dtype[Any] | None:
        """The declared dtype, or None: it is the first file's."""
        dtype = None if self.dtype is None else make_dtype(self.dtype)
        return fields_of(self.columns, dtype) if self.columns and dtype is not None else dtype

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that ``member`` lists; none, if it is one name."""
        return columns_of(self.member)

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
