"""Transforms of the axes of a row: crop, bin, flip, transpose, patches. Axis 0 holds the rows.

The axes of a row go by letters: ``x`` is the last, ``y`` the one before, then ``z`` and ``t``.
``axes`` names them otherwise: ``axes: yxc`` for colour pictures, whose last axis is the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ingestd.errors import BadFile
from ingestd.transforms.common import (
    Arrays,
    Captures,
    Members,
    axis_of,
    changed,
    row_axes,
    slabwise,
)

Range = Sequence[int | None]


def as_row(arrays: Arrays, captures: Captures, *, members: Members = None) -> dict[str, np.ndarray]:
    """The whole array as one row: ``(...)`` gives ``(1, ...)``.

    Put it before the others if each file is one picture; leave out the dataset's ``stack``.
    """
    return changed(arrays, members, lambda name, array: array[None])


@slabwise
def crop(
    arrays: Arrays,
    captures: Captures,
    *,
    axes: str | None = None,
    members: Members = None,
    **ranges: Range,
) -> dict[str, np.ndarray]:
    """A part of each row: ``y: [0, 512]`` keeps index 0 up to, not including, 512 of axis y.

    null is that end of the axis, -1 the last index. ``(rows, 600, 800)`` with ``y: [0, 512]``
    gives ``(rows, 512, 800)``.

    :raises BadFile: the axis is not there, or not as long.
    """

    def cropped(name: str, array: np.ndarray) -> np.ndarray:
        names = row_axes(name, array, axes)
        index = [slice(None)] * array.ndim
        for letter, limits in ranges.items():
            axis = axis_of(name, array, names, letter)
            index[axis] = _slice(name, array.shape[axis], letter, limits)
        return array[tuple(index)]

    return changed(arrays, members, cropped)


@slabwise
def bin(
    arrays: Arrays,
    captures: Captures,
    *,
    edges: Literal["refuse", "cut"] = "refuse",
    axes: str | None = None,
    members: Members = None,
    **factors: int,
) -> dict[str, np.ndarray]:
    """Sums of neighbours: ``{y: 2, x: 4}`` makes ``(rows, 512, 512)`` ``(rows, 256, 128)``.

    Sums of integers are exact: they come in the smallest integer type that holds any sum (64 bits
    at most; a larger sum is refused). Floats are summed as float64 and come in float32 or, if they
    were it, float64. What is left at the end of an axis is refused, or ``edges: cut``.

    :raises BadFile: an axis is not there, or has a rest, or a sum is beyond 64 bits.
    :raises ValueError: a factor is no whole number from 1, or ``edges`` another word.
    """
    for letter, factor in factors.items():
        if type(factor) is not int or factor < 1:
            raise ValueError(f"{letter}: {factor!r}: write how many are summed, 1 or more")
    if edges not in ("refuse", "cut"):
        raise ValueError(f"edges {edges!r}: write refuse or cut")

    def binned(name: str, array: np.ndarray) -> np.ndarray:
        names = row_axes(name, array, axes)
        by_axis = {axis_of(name, array, names, c): factor for c, factor in factors.items()}
        return _bin(name, array, by_axis, edges == "cut")

    return changed(arrays, members, binned)


@slabwise
def flip(
    arrays: Arrays,
    captures: Captures,
    *,
    along: str,
    axes: str | None = None,
    members: Members = None,
) -> dict[str, np.ndarray]:
    """Each row mirrored along the axes named: ``along: x`` left to right, ``yx`` half a turn.

    :raises BadFile: an axis is not there.
    """

    def flipped(name: str, array: np.ndarray) -> np.ndarray:
        names = row_axes(name, array, axes)
        return np.flip(array, tuple(axis_of(name, array, names, letter) for letter in along))

    return changed(arrays, members, flipped)


@slabwise
def transpose(
    arrays: Arrays,
    captures: Captures,
    *,
    to: str | None = None,
    axes: str | None = None,
    members: Members = None,
) -> dict[str, np.ndarray]:
    """The axes of a row in another order; without ``to``, in reverse.

    ``{axes: yxc, to: cyx}`` makes ``(rows, 400, 600, 3)`` ``(rows, 3, 400, 600)``.

    :raises BadFile: an axis is not there.
    :raises ValueError: ``to`` does not name each axis once.
    """

    def transposed(name: str, array: np.ndarray) -> np.ndarray:
        names = row_axes(name, array, axes)
        order = "".join(names)[::-1] if to is None else to
        turned = [axis_of(name, array, names, letter) for letter in order]
        if sorted(turned) != sorted(names.values()):
            raise ValueError(f"to {to!r}: write each of {''.join(names)!r} once")
        return array.transpose(0, *turned)

    return changed(arrays, members, transposed)


@slabwise
def patches(
    arrays: Arrays,
    captures: Captures,
    *,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    axes: str | None = None,
    members: Members = None,
) -> dict[str, np.ndarray]:
    """Each row cut into patches, which become the rows: from the top left, x first.

    ``size`` and ``stride`` (from one patch to the next; default: ``size``) are numbers of points,
    or ``[y, x]``. ``(rows, 512, 512)`` with ``{size: 33, stride: 14}`` gives
    ``(rows * 35 * 35, 33, 33)``. What does not fill a patch at the right and the bottom is left
    out. Other axes stay: ``axes: yxc`` gives ``(..., 33, 33, 3)``.

    :raises BadFile: the rows have no axes y and x, or are smaller than a patch.
    :raises ValueError: ``size`` or ``stride`` are no whole numbers from 1.
    """
    sizes = _pair("size", size)
    strides = sizes if stride is None else _pair("stride", stride)

    def cut(name: str, array: np.ndarray) -> np.ndarray:
        names = row_axes(name, array, axes)
        yx = [axis_of(name, array, names, letter) for letter in "yx"]
        for letter, axis, length in zip("yx", yx, sizes, strict=True):
            if array.shape[axis] < length:
                raise BadFile(
                    f"rows of {length} points or more along {letter}, the patches' size",
                    f"{name!r} has rows of shape {array.shape[1:]}",
                    "Set a smaller 'size', or send such files to another source",
                )
        return _patches(array, yx, sizes, strides)

    return changed(arrays, members, cut)


def _slice(name: str, length: int, letter: str, limits: Range) -> slice:
    pair = isinstance(limits, list | tuple) and len(limits) == 2
    if not pair or not all(end is None or type(end) is int for end in limits):
        raise ValueError(f"{letter}: {limits!r} is no range; write [start, stop], like [0, 512]")
    start, stop = (
        default if end is None else end + length if end < 0 else end
        for end, default in zip(limits, (0, length), strict=True)
    )
    if not 0 <= start < stop <= length:
        raise BadFile(
            f"indices {list(limits)} of axis {letter}",
            f"in {name!r} it is {length} long",
            "Set another range, or send such files to another source",
        )
    return slice(start, stop)


def _bin(name: str, array: np.ndarray, factors: dict[int, int], cut: bool) -> np.ndarray:
    shape, parts, summed = [len(array)], [slice(None)], []
    for axis in range(1, array.ndim):
        factor, length = factors.get(axis, 1), array.shape[axis]
        if length < factor or (length % factor and not cut):
            raise BadFile(
                f"axes that are multiples of the bins, {factor} for axis {axis}",
                f"{name!r} has rows of shape {array.shape[1:]}",
                "Set 'edges: cut' to leave out the rest, or crop before",
            )
        parts.append(slice(length // factor * factor))
        summed.append(len(shape) + 1)
        shape += [length // factor, factor]
    return _sum(name, array[tuple(parts)].reshape(shape), tuple(summed))


def _sum(name: str, bins: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod([bins.shape[axis] for axis in axes], dtype=object))
    dtype = _sum_dtype(name, bins.dtype, count)
    if dtype.kind in "fc":
        precise = np.result_type(dtype, np.float64)
        return np.asarray(bins.sum(axis=axes, dtype=precise).astype(dtype, copy=False))
    sums = np.asarray(bins.sum(axis=axes, dtype=dtype))
    if bins.dtype.itemsize == dtype.itemsize and count > 1:
        _refuse_overflow(name, bins.sum(axis=axes, dtype=np.float64), dtype)
    return sums


def _sum_dtype(name: str, dtype: np.dtype, count: int) -> np.dtype:
    if dtype.kind in "fc":
        return np.result_type(dtype, np.float32)
    if dtype.kind not in "biu":
        raise BadFile(
            "numbers", f"{name!r} is {dtype}", "Name the arrays of numbers as 'members' of the step"
        )
    most = count * (1 if dtype.kind == "b" else int(np.iinfo(dtype).max) + (dtype.kind == "i"))
    kind = "i" if dtype.kind == "i" else "u"
    fits = (np.dtype(f"{kind}{size}") for size in (1, 2, 4, 8))
    wide = (one for one in fits if np.iinfo(one).max >= most and one.itemsize >= dtype.itemsize)
    return next(wide, np.dtype(f"{kind}8")) if count > 1 else dtype


def _refuse_overflow(name: str, sums: np.ndarray, dtype: np.dtype) -> None:
    """``sums`` are float64: those that may be beyond ``dtype`` within their precision."""
    limit = float(np.iinfo(dtype).max) * (1 - 1e-12)
    if sums.size and max(float(sums.max()), -float(sums.min())) > limit:
        raise BadFile(
            f"sums that fit {dtype}",
            f"{name!r} has one of about {sums.flat[np.abs(sums).argmax()]:.6g}",
            "Put a step {cast: {dtype: float64}} before",
        )


def _pair(what: str, value: int | Sequence[int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(type(one) is int and one >= 1 for one in pair):
        raise ValueError(f"{what}: {value!r}: write a number of points, or [y, x]")
    return pair[0], pair[1]


def _patches(
    array: np.ndarray, yx: Sequence[int], sizes: Sequence[int], strides: Sequence[int]
) -> np.ndarray:
    # The windows come as the last two axes; they go back to where y and x were.
    views = np.lib.stride_tricks.sliding_window_view(array, tuple(sizes), axis=tuple(yx))
    step = [slice(None)] * views.ndim
    for axis, stride in zip(yx, strides, strict=True):
        step[axis] = slice(None, None, stride)
    views = np.moveaxis(views[tuple(step)], (*yx, -2, -1), (1, 2, yx[0] + 2, yx[1] + 2))
    count = views.shape[0] * views.shape[1] * views.shape[2]
    return views.reshape(count, *views.shape[3:])
