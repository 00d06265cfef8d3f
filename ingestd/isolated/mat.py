"""MATLAB files of version 5 to 7, in the reading child: SciPy loads one variable at a time, whole.

What a file says of a variable is read here, so that its size is known before it is unpacked.

Layout: MathWorks, "MAT-File Format", chapter 1, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from ingestd.isolated.source import Source
from ingestd.isolated.wire import Member

VARIABLE_BYTES_MAX = 256 << 20
VARIABLES_MAX = 10_000
AXES_MAX = 32

_HEADER_BYTES = 128
_HEAD_BYTES = 1024
_MATRIX, _COMPRESSED = 14, 15
_COMPLEX, _LOGICAL = 0x08, 0x02
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_REFUSED = {
    1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse array",
    16: "a function", 17: "an object",
}  # fmt: skip


def open_reader(fd: int) -> MatReader:
    """The file of ``fd``."""
    return MatReader(fd)


class MatReader:
    """An open MATLAB file."""

    def __init__(self, fd: int) -> None:
        self._file: BinaryIO = io.BufferedReader(Source(fd))
        self.members: Mapping[str, Member] = dict(_members(self._file))
        self._loaded: tuple[str, np.ndarray] | None = None

    def close(self) -> None:
        self._loaded = None
        self._file.close()

    def rows(self, member: str, start: int, count: int) -> np.ndarray:
        if self._loaded is None or self._loaded[0] != member:
            self._loaded = None
            self._loaded = member, self._load(member)
        return np.ascontiguousarray(self._loaded[1][start : start + count])

    def _load(self, name: str) -> np.ndarray:
        from scipy.io import loadmat  # late: it takes 0.2 s

        promised = self.members[name]
        self._file.seek(0)
        # By itself SciPy gives the narrow type that MATLAB stored whole numbers in; asked for
        # MATLAB's own it forgets imaginary parts.
        real = promised.dtype.kind != "c"
        loaded = loadmat(self._file, variable_names=[name], mat_dtype=real)[name]
        if not isinstance(loaded, np.ndarray) or loaded.shape != promised.shape:
            raise ValueError(f"{name} is not what its header says")
        return loaded.astype(promised.dtype, copy=False)


def _members(file: BinaryIO) -> Iterator[tuple[str, Member]]:
    size_bytes = file.seek(0, 2)
    file.seek(124)
    order = {b"IM": "little", b"MI": "big"}.get(file.read(4)[2:])
    if order is None:
        raise ValueError("it does not say in which order its bytes are (MATLAB 4, or none at all)")
    numbers = _Numbers(order == "big")
    at, found = _HEADER_BYTES, set[str]()
    while at < size_bytes:
        file.seek(at)
        kind, length = numbers.pair(file.read(8))
        at += 8 + length
        if at > size_bytes:
            raise ValueError(f"a variable ends at byte {at:,}, the file at {size_bytes:,}")
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"what stands at byte {at - length - 8:,} is no variable")
        head = file.read(min(length, _HEAD_BYTES))
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(head, _HEAD_BYTES)
            if numbers.pair(unpacked[:8])[0] != _MATRIX:
                raise ValueError("what is compressed is no variable")
            head = unpacked[8:]
        name, member = _variable(head, numbers)
        if not name:
            continue  # what MATLAB keeps of functions and objects
        if name in found or len(found) == VARIABLES_MAX:
            raise ValueError(f"it has two variables {name!r}, or more than {VARIABLES_MAX:,}")
        found.add(name)
        yield name, member


class _Numbers:
    """Numbers in the file's byte order."""

    def __init__(self, big: bool) -> None:
        self._dtype = np.dtype(">u4" if big else "<u4")

    def pair(self, data: bytes) -> tuple[int, int]:
        if len(data) < 8:
            raise ValueError("it is cut short")
        first, second = np.frombuffer(data, self._dtype, 2).tolist()
        return first, second

    def element(self, data: bytes, at: int) -> tuple[bytes, int]:
        """The data element at ``at``, and where the next one starts."""
        kind, length = self.pair(data[at : at + 8])
        if kind >> 16:  # a small one: its length, its type and up to four bytes of data
            return data[at + 4 : at + 4 + min(4, kind >> 16)], at + 8
        if at + 8 + length > len(data):
            raise ValueError("what it says of a variable is cut short")
        return data[at + 8 : at + 8 + length], at + 8 + (length + 7) // 8 * 8

    def all(self, data: bytes) -> list[int]:
        return [int(n) for n in np.frombuffer(data, self._dtype)]


def _variable(head: bytes, numbers: _Numbers) -> tuple[str, Member]:
    flags, at = numbers.element(head, 0)
    what = numbers.all(flags)[0]
    code, bits = what & 0xFF, what >> 8
    if code == 17:
        return _name(numbers.element(head, at)[0]), _refused(_REFUSED[code])
    axes, at = numbers.element(head, at)
    shape = tuple(numbers.all(axes))
    name = _name(numbers.element(head, at)[0])
    if code not in _CLASSES:
        return name, _refused(_REFUSED.get(code, f"of the unknown class {code}"))
    if not 2 <= len(shape) <= AXES_MAX or any(n >= 1 << 31 for n in shape):
        raise ValueError(f"the shape of {name!r} is {shape}")
    dtype = np.dtype(_CLASSES[code])
    if bits & _LOGICAL:
        dtype = np.dtype(bool)
    elif bits & _COMPLEX:
        dtype = np.result_type(dtype, np.complex64)
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return name, _refused("empty")
    if size > VARIABLE_BYTES_MAX:
        return name, Member(
            np.dtype("V1"), (),
            refused=(
                f"variables of {VARIABLE_BYTES_MAX:,} bytes or less, as they are read whole",
                f"it has {size:,} bytes",
                "Save it with -v7.3, which is read in slabs.",
            ),
        )  # fmt: skip
    return name, Member(dtype, shape)


def _name(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace").rstrip("\0")


def _refused(found: str) -> Member:
    remedy = "Save what it holds as arrays of numbers (full() of a sparse one)."
    return Member(
        np.dtype("V1"), (), refused=("an array of numbers or logicals", f"it is {found}", remedy)
    )
