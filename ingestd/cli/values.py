"""Values of rows, taken apart: into columns of text, or the numbers that can be drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def columns(rows: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """The names, and the values as text, of each column; rows are ``(n, *row_shape)``.

    Texts read back to the same values. Columns are called by their index in the row (``3``,
    ``0_3``), those of structured rows by field (``x``, ``position_0``, ``outer.inner``).
    """
    found = list(_columns(rows, ""))
    return [name or "value" for name, _ in found], [_texts(values) for _, values in found]


def numbers(rows: np.ndarray, name: str = "") -> list[tuple[str, np.ndarray]]:
    """What of ``rows`` is real numbers or times, with its name: all of it (``""``), or fields."""
    if rows.dtype.names is None:
        return [(name, rows)] if rows.dtype.kind in "biufM" else []
    return [
        found
        for field in rows.dtype.names
        for found in numbers(rows[field], f"{name}.{field}" if name else field)
    ]


def with_times(rows: np.ndarray, units: Mapping[str, str]) -> np.ndarray:
    """``rows`` with those integers as ``datetime64`` that are times, by path of the field."""
    return rows.view(_with_times(rows.dtype, units, "")) if units else rows


def _with_times(dtype: np.dtype, units: Mapping[str, str], path: str) -> np.dtype:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_with_times(base, units, path), shape))
    if dtype.names is not None:
        parts = {name: (f"{path}.{name}" if path else name) for name in dtype.names}
        return np.dtype(
            {
                "names": list(parts),
                "formats": [_with_times(dtype[n], units, below) for n, below in parts.items()],
                "offsets": [dtype.fields[n][1] for n in parts] if dtype.fields else [],
                "itemsize": dtype.itemsize,
            }
        )
    try:
        unit = np.dtype(units.get(path, dtype))
    except TypeError:
        return dtype  # an attribute of the user's own that means no unit
    is_time = unit.kind == "M" and dtype.kind == "i" and dtype.itemsize == unit.itemsize
    return unit.newbyteorder(dtype.byteorder) if is_time else dtype


def write_npy(file: Any, rows: np.ndarray) -> None:
    """Write ``rows`` to ``file``, which needs no more than ``write``, as one .npy."""
    with warnings.catch_warnings():
        # What h5py notes in a dtype (an enum's names, a text's encoding) has no place in .npy.
        warnings.filterwarnings("ignore", "metadata on a dtype", UserWarning)
        np.lib.format.write_array(file, rows, allow_pickle=False)


def _columns(values: np.ndarray, name: str) -> Iterator[tuple[str, np.ndarray]]:
    for index in np.ndindex(values.shape[1:]):
        column = values[(slice(None), *index)]
        parts = "_".join(map(str, index))
        called = "_".join(part for part in (name, parts) if part)
        if column.dtype.names is None:
            yield called, column
        for field in column.dtype.names or ():
            yield from _columns(column[field], f"{called}.{field}" if called else field)


def _texts(values: np.ndarray) -> np.ndarray:
    match values.dtype.kind:
        case "S":
            return np.array([text.decode("utf-8", "backslashreplace") for text in values.tolist()])
        case "V":
            return np.array([opaque.tobytes().hex() for opaque in values])
    return values.astype(str)
