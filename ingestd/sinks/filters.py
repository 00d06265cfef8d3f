"""HDF5's filters called without HDF5: any thread compresses, and any reader's filter undoes it.

HDF5 compresses inside its one lock. The filters themselves need neither that lock nor Python's,
so chunks are made here, several at a time, and handed to HDF5 as they shall stand in the file.
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from h5py import h5p, h5z
from isal import isal_zlib

from ingestd.errors import BrokenInvariant

FAST_LEVELS = range(1, 4)
"""Levels of gzip that ISA-L makes: about the size of zlib's level 1, in a tenth of the time."""

_PLUGINS = ("blosc", "blosc2", "bshuf", "lz4", "zstd")
"""Filters of hdf5plugin that are known to touch nothing of HDF5 when they compress."""

_BLOSC = 32001

_VALUES_MAX = 16
"""h5py shows so many parameters of a filter at most: with all of them taken, some may lack."""

_Bytes = bytes | np.ndarray

_Step = Callable[[_Bytes], _Bytes | None]
"""One filter. None: it can make nothing of these bytes, such as that they do not get smaller."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk as it stands in the file. Bit i of ``mask``: it went past filter i.

    One whose size is that of its rows went past all: HDF5 notes a new mask only with a new size.
    """

    data: bytes
    mask: int


Compress = Callable[[np.ndarray], Stored]
"""Takes the bytes of a whole chunk: uint8, one axis, contiguous."""


def compressor(made: h5p.PropDCID) -> Compress | None:
    """What the filters of a dataset do; ``made`` is from one that exists, not from a plan for it.

    None: only HDF5 can run them.
    """
    steps = []
    for index in range(made.get_nfilters()):
        code, flags, values, _ = made.get_filter(index)
        step = _step(code, flags, values) if len(values) < _VALUES_MAX else None
        if step is None:
            return None
        steps.append((step, bool(flags & h5z.FLAG_OPTIONAL)))
    return functools.partial(_run, steps)


def _run(steps: list[tuple[_Step, bool]], chunk: np.ndarray) -> Stored:
    data: _Bytes = chunk
    mask = 0
    for index, (step, optional) in enumerate(steps):
        made = step(data)
        if made is not None:
            data = made
        elif optional:
            mask |= 1 << index
        else:
            raise BrokenInvariant(f"a filter failed on a chunk of {len(chunk)} bytes")
    if len(data) == len(chunk):
        return unfiltered(chunk, len(steps))
    return Stored(data if isinstance(data, bytes) else data.tobytes(), mask)


def unfiltered(chunk: np.ndarray, filters: int) -> Stored:
    """``chunk`` past so many filters, which are all that there are."""
    return Stored(chunk.tobytes(), (1 << filters) - 1)


def _step(code: int, flags: int, values: tuple[int, ...]) -> _Step | None:
    if code == h5z.FILTER_SHUFFLE:
        return functools.partial(_shuffle, values[0])
    if code == h5z.FILTER_DEFLATE:
        return functools.partial(_deflate, values[0])
    library = _libraries().get(code)
    if library is None:
        return None
    if code == _BLOSC:
        return _blosc(library, values)
    return _plugin(library, flags, values)


def _shuffle(size: int, data: _Bytes) -> _Bytes:
    """The first bytes of all elements, then their second bytes, and so on."""
    if size == 1:
        return data
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, size).T).reshape(-1)


def _deflate(level: int, data: _Bytes) -> bytes:
    make: Callable[..., bytes] = isal_zlib.compress if level in FAST_LEVELS else zlib.compress
    return make(data, level)


# hdf5plugin's filters: H5Z_class2_t and H5Z_func_t of H5Zdevelop.h

_FILTER = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    *(ctypes.c_uint, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint), ctypes.c_size_t),
    *(ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_void_p)),
)


class _FilterClass(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", _FILTER),
    )


# A filter frees the buffer it is given and allocates the one it returns.
_libc = ctypes.CDLL(None)
_libc.malloc.argtypes, _libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
_libc.free.argtypes, _libc.free.restype = (ctypes.c_void_p,), None


@functools.cache
def _libraries() -> dict[int, ctypes.CDLL]:
    """The libraries of ``_PLUGINS`` that hdf5plugin has registered, by the filter's number."""
    import hdf5plugin  # late: it takes 15 ms

    files = hdf5plugin.get_config().registered_filters
    # HDF5 may have a filter from elsewhere: which library that is, is "unknown".
    return {
        hdf5plugin.FILTERS[name]: ctypes.CDLL(files[name])
        for name in _PLUGINS
        if files.get(name, "unknown") != "unknown"
    }


def _plugin(library: ctypes.CDLL, flags: int, values: tuple[int, ...]) -> _Step:
    info = library.H5PLget_plugin_info
    info.restype = ctypes.POINTER(_FilterClass)
    run = info().contents.filter
    parameters = (ctypes.c_uint * len(values))(*values)

    def step(data: _Bytes) -> bytes | None:
        given = np.frombuffer(data, np.uint8)
        buffer = ctypes.c_void_p(_libc.malloc(len(given)))
        if not buffer:
            raise MemoryError(f"no {len(given)} bytes to compress a chunk in")
        try:
            ctypes.memmove(buffer, given.ctypes.data, len(given))
            size = ctypes.c_size_t(len(given))
            length = run(
                *(flags, len(values), parameters),
                *(len(given), ctypes.byref(size), ctypes.byref(buffer)),
            )
            return ctypes.string_at(buffer, length) if length else None
        finally:
            _libc.free(buffer)

    return step


def _blosc(library: ctypes.CDLL, values: tuple[int, ...]) -> _Step:
    """As Blosc's filter, which one thread at a time can run, but with a context for each call."""
    _, _, type_size, _, level, shuffle, code = values
    name = ctypes.c_char_p()
    library.blosc_compcode_to_compname(code, ctypes.byref(name))
    run = library.blosc_compress_ctx
    run.argtypes = (
        *(ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p),
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int),
    )

    def step(data: _Bytes) -> bytes | None:
        given = np.frombuffer(data, np.uint8)
        made = np.empty(len(given), np.uint8)
        length = run(
            *(level, shuffle, type_size, len(given), given.ctypes.data),
            *(made.ctypes.data, len(made), name, 0, 1),
        )
        if length < 0:
            raise BrokenInvariant(f"Blosc failed on a chunk of {len(given)} bytes: {length}")
        return made[:length].tobytes() if length else None

    return step
