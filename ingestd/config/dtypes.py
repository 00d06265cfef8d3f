"""Which dtypes a dataset may have. One that passes here can live in HDF5 under SWMR.

Times have no HDF5 type: they are stored as the 64-bit integers that they are, with their unit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Written = str | Mapping[str, Any]
"""A dtype as a config has it: ``float32``, or ``{time: f8, name: S8}`` for fields."""

_LIKE = "write one like float32, '<u2' or S16, or {time: f8, name: S8}"


def parse_dtype(value: Any) -> Written:
    """``value``, which says a dtype that a growing dataset can hold.

    :raises ValueError: NumPy does not know it, or HDF5 cannot hold it under SWMR.
    """
    dtype = make_dtype(value)
    if dtype.subdtype is not None:
        raise ValueError(f"{value!r} holds an array; write the shape as row_shape instead")
    if any(_units(dtype, "")):
        raise ValueError(
            f"dtype {dtype} has no HDF5 type; leave 'dtype' out (or write int64): times are stored "
            "as 64-bit integers, their unit in the attribute 'units'"
        )
    refuse_dtype(dtype)
    return value  # type: ignore[no-any-return]


def make_dtype(value: Any) -> np.dtype[Any]:
    """The dtype that a config's text or mapping says, whether or not HDF5 can hold it.

    :raises ValueError: none.
    """
    if isinstance(value, Mapping) and value and all(isinstance(name, str) for name in value):
        return np.dtype([(name, make_dtype(field)) for name, field in value.items()])
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no dtype; {_LIKE}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.dtype(value)
    except (TypeError, ValueError, SyntaxError, OverflowError, MemoryError, Warning) as error:
        raise ValueError(f"{value!r} is no NumPy dtype ({error}); {_LIKE}") from None


def refuse_dtype(dtype: np.dtype[Any]) -> None:
    """Nothing, for a dtype that a growing dataset can hold; times in it count as integers.

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
    if dtype.kind in "mM" and np.datetime_data(dtype)[0] == "generic":
        raise ValueError(f"dtype {dtype} has no unit; give it one, like {dtype.kind}8[ns]")
    if dtype.char == "G" and not dtype.isnative:
        raise ValueError(
            f"dtype {dtype} is read back by h5py in another byte order; use complex128"
        )
    if dtype.itemsize == 0:
        raise ValueError(f"dtype {dtype} has no width; give it one, like {dtype.kind}16")


def refuse_scaleoffset(dtype: np.dtype[Any]) -> None:
    """Nothing, for integers.

    :raises ValueError: the filter scaleoffset cannot bring values of ``dtype`` back exactly.
    """
    if dtype.kind not in "iu" or labels(dtype):
        raise ValueError(
            f"scaleoffset is exact for integers only, not for {dtype}; write compression: "
            "bitshuffle or zstd instead"
        )


def stored_dtype(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], dict[str, str]]:
    """``dtype`` as HDF5 holds it, without padding, and the units of the times in it.

    A ``datetime64[ns]`` is an int64 of the same bytes with the unit ``datetime64[ns]``. Units go by
    the path of their field, ``start`` or ``span.start``; "" is the whole.
    """
    units = dict(_units(dtype, ""))
    stored = _stored(dtype) if units else dtype
    if dtype.names:
        from numpy.lib.recfunctions import repack_fields  # late: it takes 10 ms, for few files

        # Packed: the bytes between padded fields are nobody's, and would spoil the digest.
        stored = repack_fields(stored, recurse=True)
    return stored, units


def as_utf8(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """``dtype`` whose text HDF5 shall call UTF-8; without that it says ASCII."""
    if dtype.subdtype is not None:
        return np.dtype((as_utf8(dtype.subdtype[0]), dtype.shape))
    if dtype.names:
        return np.dtype([(name, as_utf8(dtype[name])) for name in dtype.names])
    if dtype.kind != "S":
        return dtype
    return np.dtype(dtype.str, metadata={"h5py_encoding": "utf-8"})


def holds_unicode(dtype: np.dtype[Any]) -> bool:
    """Whether there is NumPy's unicode in ``dtype``."""
    if dtype.subdtype is not None:
        return holds_unicode(dtype.subdtype[0])
    return dtype.kind == "U" or any(holds_unicode(dtype[name]) for name in dtype.names or ())


def labels(dtype: np.dtype[Any], path: str = "") -> dict[str, Mapping[str, int]]:
    """The names that values of enumerations have, by the path of the field ("": the whole)."""
    if dtype.subdtype is not None:
        return labels(dtype.subdtype[0], path)
    if dtype.names:
        found = [labels(dtype[name], _below(path, name)) for name in dtype.names]
        return {key: value for one in found for key, value in one.items()}
    metadata: Mapping[str, Any] = dtype.metadata or {}
    names = metadata.get("enum")  # h5py's
    return {} if names is None else {path: dict(names)}


def converts(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether values of one dtype can become the other; whether they fit shows each of them."""
    if given.subdtype and wanted.subdtype:
        return given.shape == wanted.shape and converts(given.base, wanted.base)
    if given.names and wanted.names:
        return len(given.names) == len(wanted.names) and all(
            converts(given[one], wanted[other])
            for one, other in zip(given.names, wanted.names, strict=True)
        )
    if given.kind == "U":
        return wanted.kind == "S"
    return np.can_cast(given, wanted, "same_kind")


def fields_of(columns: Sequence[str], dtype: np.dtype[Any]) -> np.dtype[Any]:
    """``dtype`` for rows of these columns: each of it, or its fields in their order.

    Fields that have no names of their own (``f8,i4``) get those of the columns.

    :raises ValueError: there are not as many fields as columns.
    """
    if dtype.names is None:
        return np.dtype([(column, dtype) for column in columns])
    if len(dtype.names) != len(columns):
        raise ValueError(
            f"dtype has {len(dtype.names)} fields for {len(columns)} columns; write one for each"
        )
    if dtype.names != tuple(f"f{i}" for i in range(len(columns))):
        return dtype
    return np.dtype(
        [(column, dtype[name]) for column, name in zip(columns, dtype.names, strict=True)]
    )


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


def _units(dtype: np.dtype[Any], path: str) -> Iterator[tuple[str, str]]:
    if dtype.subdtype is not None:
        yield from _units(dtype.subdtype[0], path)
    for name in dtype.names or ():
        yield from _units(dtype[name], _below(path, name))
    if dtype.kind in "mM":
        yield path, dtype.newbyteorder("=").name


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.subdtype is not None:
        return np.dtype((_stored(dtype.subdtype[0]), dtype.shape))
    if dtype.names:
        return np.dtype([(name, _stored(dtype[name])) for name in dtype.names])
    return np.dtype(f"{dtype.byteorder}i8") if dtype.kind in "mM" else dtype


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _width(dtype: np.dtype[Any]) -> int:
    return max(16, dtype.itemsize // 4)
