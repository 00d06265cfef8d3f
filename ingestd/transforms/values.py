"""Transforms of the values: their dtype, their scale. No value is changed beyond what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ingestd.errors import BadFile
from ingestd.transforms.common import Arrays, Captures, Members, changed, slabwise


@slabwise
def cast(
    arrays: Arrays,
    captures: Captures,
    *,
    dtype: str,
    overflow: Literal["refuse", "clip"] = "refuse",
    members: Members = None,
) -> dict[str, np.ndarray]:
    """Numbers as another ``dtype``: ``(rows, ...)`` of any shape gives the same shape.

    Floats become integers by rounding (halves to even). Numbers that do not fit are refused, or
    become the nearest that does (``overflow: clip``; a nan never becomes an integer).

    :raises BadFile: they are no numbers, or do not fit.
    :raises ValueError: ``dtype`` is no dtype of numbers.
    """
    target = np.dtype(dtype)
    if target.kind not in "iufc":
        raise ValueError(f"{dtype!r} is no dtype of numbers; write one, like float32 or uint16")
    if overflow not in ("refuse", "clip"):
        raise ValueError(f"overflow {overflow!r}: write refuse or clip")
    return changed(arrays, members, lambda name, a: _cast(name, a, target, overflow == "clip"))


@slabwise
def scale(
    arrays: Arrays,
    captures: Captures,
    *,
    factor: float | Sequence[float] = 1.0,
    offset: float | Sequence[float] = 0.0,
    members: Members = None,
) -> dict[str, np.ndarray]:
    """``values * factor + offset``: ``(rows, ...)`` of any shape gives the same shape.

    A list holds one number for each index of the last axis: the columns of a table, say. Integers
    of 8 and 16 bits become float32, larger ones float64; floats keep their precision, float32 at
    least.

    :raises BadFile: they are no numbers, or a list has not as many as the last axis.
    """
    factors, offsets = np.asarray(factor), np.asarray(offset)

    def scaled(name: str, array: np.ndarray) -> np.ndarray:
        _refuse_others(name, array)
        for numbers in (factors, offsets):
            if numbers.ndim and (array.ndim < 2 or numbers.shape != array.shape[-1:]):
                raise BadFile(
                    f"rows whose last axis has {numbers.size} indices, for {numbers.tolist()}",
                    f"{name!r} has rows of shape {array.shape[1:]}",
                    "Give one number for all, or one for each",
                )
        dtype = np.result_type(array.dtype, np.float32)
        made = array.astype(dtype)
        made *= factors.astype(dtype)
        made += offsets.astype(dtype)
        return made

    return changed(arrays, members, scaled)


def _refuse_others(name: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "biufc":
        raise BadFile(
            "numbers",
            f"{name!r} is {array.dtype}",
            "Name the arrays of numbers as 'members' of the step, or select columns before it",
        )


def _cast(name: str, array: np.ndarray, target: np.dtype[Any], clip: bool) -> np.ndarray:
    _refuse_others(name, array)
    if array.dtype == target:
        return array
    if array.dtype.kind == "c" and target.kind != "c":
        raise BadFile(
            "real numbers",
            f"{name!r} is {array.dtype}",
            "Take the part that you want in a transform of your own",
        )
    return (_to_integers if target.kind in "iu" else _to_floats)(name, array, target, clip)


def _to_integers(name: str, array: np.ndarray, target: np.dtype[Any], clip: bool) -> np.ndarray:
    # Of float16 the limits below would be infinite.
    wide = array.astype(np.float32) if array.dtype == np.float16 else array
    values = np.rint(wide) if wide.dtype.kind == "f" else wide
    info = np.iinfo(target)
    # As Python numbers they compare exactly, whatever their types.
    low, high = (values.min().item(), values.max().item()) if values.size else (0, 0)
    if not (low >= info.min and high <= info.max) and (not clip or low != low):
        raise _does_not_fit(name, target, f"values from {low} to {high}")
    with np.errstate(invalid="ignore"):
        made = values.astype(target)
    if low < info.min:
        made[values <= info.min] = info.min
    if high > info.max:
        made[values >= info.max] = info.max
    return made


def _to_floats(name: str, array: np.ndarray, target: np.dtype[Any], clip: bool) -> np.ndarray:
    with np.errstate(over="ignore"):
        made = array.astype(target)
    over = np.isinf(made) & ~np.isinf(array)
    if not over.any():
        return made
    if not clip or target.kind == "c":
        raise _does_not_fit(name, target, f"values up to {np.abs(array[over]).max()}")
    made[over] = np.copysign(np.finfo(target).max, made[over])
    return made


def _does_not_fit(name: str, target: np.dtype[Any], found: str) -> BadFile:
    return BadFile(
        f"numbers that fit {target}",
        f"{name!r} has {found}",
        "Set a wider 'dtype', or 'overflow: clip'",
    )
