"""Transforms: the user's functions between a file's arrays and its rows.

What they return is checked as a file is: a function that fails, or returns what no dataset holds,
costs the one file, never the daemon.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ingestd.config import READY, Captures, Config, Problem, Source, Step
from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, OpenFile
from ingestd.formats.registry import check_formats

Arrays = Mapping[str, np.ndarray]
Function = Callable[..., Arrays | None]

SLAB_BYTES = 1 << 20


class Transform:
    """The steps of one source, applied in turn."""

    def __init__(self, source: Source) -> None:
        """:raises ImportError, AttributeError, TypeError: a step cannot be had."""
        self._steps = [(step, _function(step)) for step in source.transform]
        # What is stacked is one row: it has to be there whole.
        self.slabs = not any(dataset.stack for dataset in source.datasets.values()) and all(
            getattr(function, "slabs", False) for _, function in self._steps
        )

    def __call__(self, arrays: Arrays, captures: Captures) -> dict[str, np.ndarray]:
        """What the last step returns, by member or dataset path.

        :raises BadFile: a step fails, or returns something else than arrays by name.
        """
        for step, function in self._steps:
            with _blamed(step):
                returned = function(arrays, captures, **step.parameters)
                arrays = {} if returned is None else _arrays(returned)
        return dict(arrays)


def transforms(config: Config) -> dict[str, Transform]:
    """The transform of each source that has one.

    :raises ImportError, AttributeError, TypeError: one cannot be had; ``check_parts`` says it.
    """
    _find_beside(config)
    return {s.name: Transform(s) for s in config.sources.values() if s.transform}


def check_parts(config: Config) -> Iterator[Problem]:
    """What is wrong with each source's options, and its transforms: they are imported."""
    yield from check_formats(config)
    _find_beside(config)
    for source in config.sources.values():
        for step in source.transform:
            try:
                _function(step)
            except Exception as error:  # noqa: BLE001 - a module of the user's may raise anything
                yield Problem(
                    source.at("transform"),
                    f"transform {str(step)!r}: {type(error).__name__}: {error}; write "
                    "'module:function' of a module that is installed, or beside the config, and "
                    "parameters that it has",
                )


def transformed(
    transform: Transform,
    opened: OpenFile,
    captures: Captures,
    take: Callable[[int], None],
) -> OpenFile:
    """The file as the transform makes it.

    Slab by slab, if all of its steps can and the file has one array; else all at once, and
    ``take`` is asked for the bytes of the arrays that are read.

    :raises BadFile: it fails, or the arrays do not fit in memory.
    """
    if transform.slabs and len(opened.members) == 1:
        return _Slabs(transform, opened, captures)
    return _Whole(transform(_Lazy(opened, take), captures))


class _Lazy(Mapping[str, np.ndarray]):
    """The arrays of a file; each is read when it is asked for, and then kept."""

    def __init__(self, opened: OpenFile, take: Callable[[int], None]) -> None:
        self._opened = opened
        self._take = take
        self._read: dict[str, np.ndarray] = {}

    def __getitem__(self, member: str) -> np.ndarray:
        if member not in self._read:
            self._read[member] = _whole(self._opened, member, self._take)
        return self._read[member]

    def __iter__(self) -> Iterator[str]:
        return iter(self._opened.members)

    def __len__(self) -> int:
        return len(self._opened.members)


def _whole(opened: OpenFile, member: str, take: Callable[[int], None]) -> np.ndarray:
    info = opened.members[member]
    known = tuple(size or 0 for size in info.shape)
    if None in info.shape:
        slabs = [np.empty((0, *known[1:]), info.dtype)]
        for slab in opened.slabs(member, SLAB_BYTES):
            take(2 * slab.nbytes)
            slabs.append(slab)
        return np.concatenate(slabs)
    take(info.dtype.itemsize * math.prod(known))
    if not known:
        return next(opened.slabs(member, SLAB_BYTES))
    array = np.empty(known, info.dtype)
    at = 0
    for slab in opened.slabs(member, SLAB_BYTES):
        array[at : at + len(slab)] = slab
        at += len(slab)
    return array


class _Whole:
    """What a transform made of a whole file."""

    plain: int | None = None

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.members: Mapping[str, ArrayInfo] = {
            name: ArrayInfo(array.dtype, array.shape) for name, array in arrays.items()
        }

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        # Copies: the array is the function's, which may fill it anew for the next file.
        array = self._arrays[member]
        if not array.shape:
            yield array.copy()
            return
        step = self.members[member].slab_rows(slab_bytes)
        for start in range(0, len(array), step):
            yield array[start : start + step].copy()


class _Slabs:
    """A file that is transformed while it is read, once for each dataset it feeds."""

    plain: int | None = None

    def __init__(self, transform: Transform, opened: OpenFile, captures: Captures) -> None:
        self._transform = transform
        self._opened = opened
        self._captures = captures
        ((self._member, info),) = opened.members.items()
        # Of which kind its rows are, only the function can tell.
        first = next(opened.slabs(self._member, info.dtype.itemsize), None)
        if first is None:
            first = np.empty(tuple(size or 0 for size in info.shape), info.dtype)
        self.members: Mapping[str, ArrayInfo] = {
            name: ArrayInfo(array.dtype, (None, *array.shape[1:]))
            for name, array in self._made(first).items()
        }

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        for slab in self._opened.slabs(self._member, slab_bytes):
            rows = self._made(slab).get(member)
            if rows is None:
                continue
            info = self.members[member]
            if (rows.dtype, rows.shape[1:]) != (info.dtype, info.shape[1:]):
                raise BadFile(
                    f"rows of {info.dtype} {info.shape[1:]} from each slab, as from the first",
                    f"rows of {rows.dtype} {rows.shape[1:]} for {member!r}",
                    "Correct the transform, then: ingestd retry",
                )
            yield from _Whole({member: rows}).slabs(member, slab_bytes)

    def _made(self, slab: np.ndarray) -> dict[str, np.ndarray]:
        return self._transform({self._member: slab}, self._captures)


@contextlib.contextmanager
def modules_anew(config: Config) -> Iterator[None]:
    """The modules of the transforms of ``config`` are imported anew in the block, if it succeeds:
    the user may have mended them. Modules that these import stay as they are."""
    names = {step.module for s in config.sources.values() for step in s.transform} - {READY}
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    importlib.invalidate_caches()
    try:
        yield
    except BaseException:
        sys.modules.update(before)
        raise


def _find_beside(config: Config) -> None:
    """Modules beside the config can be imported; those that are installed come first."""
    directory = str((config.path or Path("x")).absolute().parent)
    if directory not in sys.path:
        sys.path.append(directory)


def _function(step: Step) -> Function:
    function: Function = getattr(importlib.import_module(step.module), step.name)
    if not callable(function):
        raise TypeError(f"{step.name} is no function")
    inspect.signature(function).bind({}, {}, **step.parameters)
    return function


@contextlib.contextmanager
def _blamed(step: Step) -> Iterator[None]:
    try:
        yield
    except (BadFile, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - a function of the user's may raise anything
        raise BadFile(
            f"a file that {step} can transform",
            f"{type(error).__name__}: {error}",
            "Correct the file, or the function and restart; then: ingestd retry",
            traceback.format_exc(),
        ) from None


def _arrays(returned: Any) -> dict[str, np.ndarray]:
    if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
        raise TypeError(f"it returned {type(returned).__name__}, not a dict of arrays by name")
    return {name: np.asarray(array) for name, array in returned.items()}
