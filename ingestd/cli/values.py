"""Values of rows, taken apart: into columns of text, or the numbers that can be drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def columns(rows: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """The names, and the values as text, of each column; rows are ``(n, *row_shape)``.

    Texts read back to the same values. Columns are called by their index in the row (``3``,
    ``0_3``), those of structured rows by field (``x``, ``position_0``, ``outer.inner``).
    """
    found = list(_columns(rows, ""))
    return [name or "value" for name, _ in found], [_texts(values) for _, values in found]


def numbers(rows: np.ndarray) -> np.ndarray | None:
    """``rows`` if they are real numbers; of structured ones the first field that is; else None."""
    if rows.dtype.names is not None:
        fields = (numbers(rows[name]) for name in rows.dtype.names)
        return next((field for field in fields if field is not None), None)
    return rows if rows.dtype.kind in "biuf" else None


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
