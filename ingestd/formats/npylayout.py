"""How one array lies in ``.npy`` bytes, alone or as a zip member: its header, then its items.

No header is believed: it is parsed as a literal, never unpickled, and only sizes come out of it.
"""

from __future__ import annotations

import ast
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ingestd.errors import BadFile

MAGIC = b"\x93NUMPY"
HEADER_BYTES_MAX = 64 * 1024
"""numpy writes about 100 bytes, and a few hundred for a record of many fields."""

ARRAY_BYTES_MAX = 2**63 - 1
AXES_MAX = 32
GAP_BYTES_MAX = 64 * 1024
"""Reading over a gap of this many bytes costs about as much as one more read."""

_DESCR = re.compile(r"[<>|=]?[?biufcmMSUVO]\d{0,10}(\[\w{1,16}(/\d{1,9})?\])?")
_PYTHON2_SHAPE = re.compile(r"(?<='shape': \()[\dL, ]*+(?=\))")
# Only what a header is made of: on other text Python's parser may print warnings, or run deep.
_TOKENS = re.compile(
    r"""(?: [\s()\[\]{},:] | (?:True|False|\d++)(?!\w)
    | '(?:[^'\\\n]|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}))*+'
    | "(?:[^"\\\n]|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}))*+" )*+""",
    re.VERBOSE,
)
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
_SAVE_AGAIN = "Save the array again with numpy.save, then drop the file again."


class Source(Protocol):
    """Where the bytes of one ``.npy`` come from."""

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill all of ``target`` with the bytes from ``offset`` on.

        :raises BadFile: there are fewer.
        """
        ...


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What the header says; ``data_start`` is where the items begin, in bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    data_start: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def scattered(self) -> bool:
        """Whether a row's items lie apart (Fortran order), so that rows must be gathered."""
        return self.fortran_order and len(self.shape) > 1 and self.data_bytes > 0

    def rows_in(self, slab_bytes: int) -> int:
        """Rows of a slab of ``slab_bytes`` or less, one at least."""
        if not self.row_bytes:
            return max(1, self.shape[0])
        return max(1, slab_bytes // self.row_bytes)


def read_header(source: Source) -> NpyHeader:
    """Parse the header at the start of ``source``.

    :raises BadFile: it is not a ``.npy``, holds Python objects, or means no possible array.
    """
    magic = _read(source, 0, len(MAGIC) + 2)
    if not magic.startswith(MAGIC):
        raise _bad_header(f"it starts with {magic!r}")
    version = (magic[-2], magic[-1])
    if version not in _LENGTH_BYTES:
        raise _bad_header(f"its format version is {version[0]}.{version[1]}")
    length_bytes = _LENGTH_BYTES[version]
    header_bytes = int.from_bytes(_read(source, len(magic), length_bytes), "little")
    if header_bytes > HEADER_BYTES_MAX:
        raise BadFile(
            f"a numpy header of {HEADER_BYTES_MAX:,} bytes or less",
            f"its header claims {header_bytes:,} bytes",
            "Save the array with fewer or shorter field names, then drop the file again.",
        )
    start = len(magic) + length_bytes
    fields = _literal(_read(source, start, header_bytes), version)
    return _checked(fields, start + header_bytes)


def slabs(source: Source, header: NpyHeader, slab_bytes: int) -> Iterator[np.ndarray]:
    """The array's rows in order; an array of no dimensions comes as one slab of its own shape.

    Takes one slab of memory at a time, or three in Fortran order, which is also slower.
    """
    if not header.shape:
        yield _read_array(source, header, 0, ())
        return
    rows = header.shape[0]
    step = header.rows_in(slab_bytes)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        if header.scattered:
            yield _gather(source, header, start, count, slab_bytes)
        else:
            yield _read_array(source, header, start, (count, *header.shape[1:]))


def _read_array(
    source: Source, header: NpyHeader, first_row: int, shape: tuple[int, ...]
) -> np.ndarray:
    array = np.ndarray(shape, header.dtype)  # numpy.empty would make S0 of no bytes into S1
    if array.nbytes:
        source.read_into(header.data_start + first_row * header.row_bytes, _bytes_of(array))
    return array


def _gather(
    source: Source, header: NpyHeader, start: int, count: int, slab_bytes: int
) -> np.ndarray:
    """Rows ``start`` to ``start + count`` of a Fortran-order array, where columns lie together."""
    rows, itemsize = header.shape[0], header.dtype.itemsize
    slab = np.empty((count, *header.shape[1:]), header.dtype, order="F")
    columns = slab.reshape((count, -1), order="F")
    column_bytes = rows * itemsize
    together, width = 1, count
    if (rows - count) * itemsize <= GAP_BYTES_MAX and column_bytes <= slab_bytes:
        together, width = min(slab_bytes // column_bytes, columns.shape[1]), rows
    buffer = np.empty((together, width), header.dtype)
    for first in range(0, columns.shape[1], together):
        taken = min(together, columns.shape[1] - first)
        span_bytes = ((taken - 1) * rows + count) * itemsize
        offset = header.data_start + first * column_bytes + start * itemsize
        source.read_into(offset, _bytes_of(buffer)[:span_bytes])
        columns[:, first : first + taken] = buffer[:taken, :count].T
    return np.ascontiguousarray(slab)


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _read(source: Source, offset: int, count: int) -> bytes:
    data = bytearray(count)
    source.read_into(offset, memoryview(data))
    return bytes(data)


# CPython 3.11's parser counts its depth for all threads together: two that parse at once make
# it raise SystemError. (github.com/python/cpython/issues/106905)
_PARSER = threading.Lock()


def _literal(header: bytes, version: tuple[int, int]) -> dict[Any, Any]:
    try:
        text = header.decode("utf-8" if version == (3, 0) else "latin1").strip()
        text = _PYTHON2_SHAPE.sub(lambda match: match[0].replace("L", ""), text)
        with _PARSER:
            found = ast.literal_eval(text) if _TOKENS.fullmatch(text) else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise _bad_header(f"its header is {_shorten(header)}") from error
    if not isinstance(found, dict) or set(found) != {"descr", "fortran_order", "shape"}:
        raise _bad_header(f"its header is {_shorten(header)}")
    return found


def _checked(fields: dict[Any, Any], data_start: int) -> NpyHeader:
    shape, fortran_order = fields["shape"], fields["fortran_order"]
    if type(fortran_order) is not bool:
        raise _bad_header(f"its fortran_order is {_shorten(fortran_order)}")
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise _bad_header(f"its shape is {_shorten(shape)}")
    dtype = _dtype(fields["descr"])
    # numpy counts the axes of length 0 as 1 here, and so does its limit.
    items_max = ARRAY_BYTES_MAX // (dtype.itemsize or 1)
    if len(shape) > AXES_MAX or math.prod(n or 1 for n in shape) > items_max:
        raise _bad_header(f"its shape is {_shorten(shape)}, which no array can have")
    return NpyHeader(dtype, shape, fortran_order, data_start)


def _dtype(descr: Any) -> np.dtype[Any]:
    if not _plausible(descr):
        raise _bad_header(f"its dtype is {_shorten(descr)}")
    try:
        dtype = np.lib.format.descr_to_dtype(descr)
    except (ValueError, TypeError, OverflowError) as error:
        raise _bad_header(f"its dtype is {_shorten(descr)}") from error
    if dtype.hasobject:
        raise BadFile(
            "numbers or fixed-width strings",
            f"its dtype is {_shorten(descr)}: pickled objects are never loaded",
            "Convert the array to a numeric dtype (array.astype(float)), save it with "
            "allow_pickle=False, then drop the file again.",
        )
    if dtype.subdtype is not None:
        raise _bad_header(f"its dtype is {_shorten(descr)}")
    return dtype


def _plausible(descr: object) -> bool:
    """Whether ``descr`` has the form that numpy writes; numpy itself accepts much more."""
    if isinstance(descr, str):
        return _DESCR.fullmatch(descr) is not None
    if not isinstance(descr, list):
        return False
    for field in descr:
        if not isinstance(field, tuple) or len(field) not in (2, 3) or not _plausible(field[1]):
            return False
        names = field[0] if isinstance(field[0], tuple) else (field[0],)
        if len(names) > 2 or not all(isinstance(name, str) for name in names):
            return False
        if len(field) == 3 and not _is_shape(field[2]):
            return False
    return True


def _is_shape(value: object) -> bool:
    sizes = value if isinstance(value, tuple) else (value,)
    return all(type(size) is int and size >= 0 for size in sizes)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _bad_header(found: str) -> BadFile:
    return BadFile("a numpy array file (.npy, versions 1 to 3)", found, _SAVE_AGAIN)
