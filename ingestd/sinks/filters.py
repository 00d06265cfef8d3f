"""HDF5's filters called without HDF5: any thread compresses, and any reader's filter undoes it.

HDF5 compresses inside its one lock. The filters themselves need neither that lock nor Python's,
so chunks are made here, several at a time, and handed to HDF5 as they shall stand in the file.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z
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
    if code == h5z.FILTER_FLETCHER32:
        return _with_checksum
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


_WORDS = 1 << 16
_WEIGHTS = np.arange(_WORDS, 0, -1, dtype=np.uint64)


def _with_checksum(data: _Bytes) -> bytes:
    """The bytes, then their Fletcher-32 as HDF5 has it (H5checksum.c).

    Of 16-bit words, big-endian, the last one filled up with zero. A sum is 0 only where all words
    are, else from 1 to 65535.
    """
    given = bytes(data) + b"\0" * (len(data) % 2)
    first = second = 0
    for start in range(0, len(given), 2 * _WORDS):
        words = np.frombuffer(given, ">u2", min(_WORDS, (len(given) - start) // 2), start)
        words = words.astype(np.uint64)
        # Each word counts once for itself and for all that follow it.
        second += len(words) * first + int(words @ _WEIGHTS[-len(words) :])
        first += int(words.sum())
    sums = [total and (total - 1) % 65535 + 1 for total in (first, second)]
    return bytes(data) + (sums[1] << 16 | sums[0]).to_bytes(4, "little")


# Scale-offset, which is part of HDF5 and cannot be called without it


def scratch_compressor(dataset: h5d.DatasetID) -> Compress | None:
    """What scale-offset makes of a chunk of ``dataset``, found in a file in memory.

    Chunks then go to the file as those of other filters do, which can move where they must not be
    written over: those of this filter are often of one size. HDF5's lock is held for each. None: it
    is not among the filters, or others are that may not work in another dataset.
    """
    made = dataset.get_create_plist()
    codes = {made.get_filter(index)[0] for index in range(made.get_nfilters())}
    known = {h5z.FILTER_SCALEOFFSET, h5z.FILTER_DEFLATE}
    return _Scratch(dataset) if h5z.FILTER_SCALEOFFSET in codes and codes <= known else None


class _Scratch:
    """A dataset of one chunk in memory, with the filters of another."""

    def __init__(self, like: h5d.DatasetID) -> None:
        made = like.get_create_plist()
        shape = made.get_chunk()
        access = h5p.create(h5p.DATASET_ACCESS)
        access.set_chunk_cache(0, 0, 0.75)
        name = uuid.uuid4().hex  # HDF5 tells files in memory apart by nothing else
        self._file = h5py.File(
            name, "w", driver="core", backing_store=False, libver=("v110", "v114")
        )
        self._chunk = h5d.create(
            self._file.id, b"chunk", like.get_type(), h5s.create_simple(shape), made, dapl=access
        )
        self._memory = h5t.py_create(like.dtype, logical=True)
        self._dtype, self._origin = like.dtype, (0,) * len(shape)
        self._shape, self._filters = shape, made.get_nfilters()
        self._lock = threading.Lock()

    def __call__(self, chunk: np.ndarray) -> Stored:
        rows = chunk.view(self._dtype).reshape(self._shape)
        with self._lock:
            self._chunk.write(h5s.ALL, h5s.ALL, rows, self._memory)
            mask, data = self._chunk.read_direct_chunk(self._origin)
        return unfiltered(chunk, self._filters) if len(data) == len(chunk) else Stored(data, mask)


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
