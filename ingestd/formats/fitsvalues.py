"""The values of FITS images and tables: from big-endian bytes to arrays of this machine.

Unsigned integers, which FITS stores with an offset, come out unsigned and exact.

Format: the FITS Standard 4.0, sections 4.4.2, 5 and 7.3 (https://fits.gsfc.nasa.gov).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

COLUMNS_MAX = 999
_IMAGE = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_COLUMN = {
    "L": "S1", "X": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "S", "E": ">f4",
    "D": ">f8", "C": ">c8", "M": ">c16",
}  # fmt: skip
_FORM = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])(.*)")
_VARIABLE = "PQ"


@dataclass(frozen=True, slots=True)
class Scale:
    """``value = zero + factor * stored``; ``blank`` is the integer that stands for no value."""

    zero: float
    factor: float
    blank: int | None = None


def image_dtype(header: Mapping[str, Any]) -> tuple[np.dtype, np.dtype, Scale | None]:
    """As what an image's values are stored, as what they are given, and how they are scaled.

    Scaled integers become float32 up to 16 bits, else float64, as astropy has it; so do
    integers with a ``BLANK``, which becomes NaN.

    :raises ValueError: the header means no type.
    """
    bits = header["BITPIX"]
    if bits not in _IMAGE:
        raise ValueError(f"BITPIX is {bits!r}")
    stored = np.dtype(_IMAGE[bits])
    zero, factor = header.get("BZERO", 0), header.get("BSCALE", 1)
    blank = header.get("BLANK") if stored.kind in "iu" else None
    dtype, scale = _scaled(stored, zero, factor, blank)
    return stored, dtype, scale


def _scaled(
    stored: np.dtype, zero: Any, factor: Any, blank: Any = None
) -> tuple[np.dtype, Scale | None]:
    if not isinstance(zero, int | float) or not isinstance(factor, int | float):
        raise ValueError(f"a scale is {factor!r}, {zero!r}")
    if blank is not None and not isinstance(blank, int):
        raise ValueError(f"BLANK is {blank!r}")
    native = stored.newbyteorder("=")
    if zero == 0 and factor == 1 and blank is None:
        return native, None
    if blank is None and factor == 1 and stored.kind in "iu":
        if stored.itemsize > 1 and zero == 2 ** (8 * stored.itemsize - 1):
            return np.dtype(f"u{stored.itemsize}"), Scale(zero, 1)
        if stored.itemsize == 1 and zero == -128:
            return np.dtype("i1"), Scale(zero, 1)
    if stored.kind in "fc":
        return native, Scale(float(zero), float(factor))
    wide = np.dtype("f4") if stored.itemsize <= 2 else np.dtype("f8")
    return wide, Scale(float(zero), float(factor), blank)


def as_scaled(values: np.ndarray, dtype: np.dtype, scale: Scale | None) -> np.ndarray:
    """``values`` as ``dtype``, fresh and contiguous."""
    if scale is None:
        return np.array(values, dtype, order="C")
    if dtype.kind in "iu":
        # The offset is the sign bit: to flip it is exact, where adding would overflow.
        native = np.array(values, values.dtype.newbyteorder("="), order="C")
        unsigned = native.view(f"u{dtype.itemsize}")
        unsigned ^= unsigned.dtype.type(1 << (8 * dtype.itemsize - 1))
        return unsigned.view(dtype)
    with np.errstate(all="ignore"):
        scaled = np.array(values, dtype, order="C")
        if scale.factor != 1:
            scaled *= dtype.type(scale.factor)
        if scale.zero != 0:
            scaled += dtype.type(scale.zero)
    if scale.blank is not None:
        scaled[values == scale.blank] = np.nan
    return scaled


@dataclass(frozen=True, slots=True)
class Table:
    """How the rows of a binary table lie in its bytes, and what comes of them."""

    stored: np.dtype
    dtype: np.dtype
    scales: Mapping[str, Scale]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in the file."""
        return self.stored.itemsize

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Rows as they are given, fresh, of ``values`` as they are stored."""
        rows = np.empty(len(values), self.dtype)
        for name in self.dtype.names or ():
            column, wanted = values[name], self.dtype[name].base
            if wanted.kind == "b":
                rows[name] = column == b"T"
            else:
                rows[name] = as_scaled(column, wanted, self.scales.get(name))
        return rows


def table(header: Mapping[str, Any]) -> Table:
    """The columns that the header of a binary table describes.

    :raises ValueError: some are of variable length, or it means no possible table.
    """
    count = int(header["TFIELDS"])
    if not 0 < count <= COLUMNS_MAX:
        raise ValueError(f"has {count} columns")
    stored: list[Any] = []
    given: list[Any] = []
    scales = {}
    for number in range(1, count + 1):
        name = str(header.get(f"TTYPE{number}", f"col{number}")).strip() or f"col{number}"
        stored_type, shape = _column(header, number, name)
        native, scale = stored_type.newbyteorder("="), None
        if header[f"TFORM{number}"].strip().lstrip("0123456789").startswith("L"):
            native = np.dtype(bool)
        elif stored_type.kind in "iufc":
            native, scale = _scaled(
                stored_type, header.get(f"TZERO{number}", 0), header.get(f"TSCAL{number}", 1)
            )
        if scale is not None:
            scales[name] = scale
        stored.append((name, stored_type, shape))
        given.append((name, native, shape))
    made = Table(np.dtype(stored), np.dtype(given), scales)
    if not made.row_bytes:
        raise ValueError("has rows of no bytes")
    if made.row_bytes != int(header["NAXIS1"]):
        raise ValueError(f"has columns of {made.row_bytes} bytes, and rows of {header['NAXIS1']}")
    return made


def _column(header: Mapping[str, Any], number: int, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    form = _FORM.fullmatch(str(header[f"TFORM{number}"]).strip())
    if form is None:
        raise ValueError(f"has a column {name!r} of the form {header[f'TFORM{number}']!r}")
    repeat, code = int(form[1] or 1), form[2]
    if code in _VARIABLE:
        raise ValueError(
            f"has a column {name!r} of variable length, which a growing dataset cannot hold"
        )
    if code == "X":
        repeat = -(-repeat // 8)
    dims = re.findall(r"\d{1,9}", str(header.get(f"TDIM{number}", "")))
    shape = tuple(int(n) for n in reversed(dims))
    if code == "A":
        width = shape[-1] if shape else repeat
        shape = shape[:-1]
        if np.prod((width, *shape), dtype=object) != repeat or not width:
            width, shape = repeat, ()
        if not width:
            raise ValueError(f"has a column {name!r} of no bytes")
        return np.dtype(f"S{width}"), shape
    if np.prod(shape, dtype=object) != repeat or not shape:
        shape = () if repeat == 1 else (repeat,)
    return np.dtype(_COLUMN[code]), shape
