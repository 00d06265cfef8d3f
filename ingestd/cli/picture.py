"""A picture of the newest rows, drawn in the terminal with half blocks. It keeps few rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.style import Style
from rich.text import Text

from ingestd.cli.values import numbers
from ingestd.model import shown
from ingestd.tail import Block
from ingestd.tail.text import short

# Matplotlib's viridis, at eight points.
_COLOURS = np.array(
    [
        (68, 1, 84),
        (70, 50, 127),
        (54, 92, 141),
        (39, 127, 142),
        (31, 161, 135),
        (74, 194, 109),
        (159, 218, 58),
        (253, 231, 37),
    ],
    float,
)
_HISTORY_ROWS = 2000
_FIELD_LINES = 6  # for each field at least


def draw(blocks: Iterator[Block[np.ndarray]]) -> None:
    """Draw what is newest, again with each block: the last scalars, row, or frame; by field."""
    console = Console()
    history: dict[str, np.ndarray] = {}
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for block in blocks:
            newest = {}
            for name, rows in numbers(block.rows):
                if rows.ndim == 1:
                    before = history.get(name, rows[:0])
                    history[name] = np.concatenate([before, rows])[-_HISTORY_ROWS:]
                newest[name] = history[name] if rows.ndim == 1 else rows[-1]
            drawn = pictures(newest, block.stop - 1, console.width, console.height)
            live.update(drawn, refresh=True)


def pictures(fields: dict[str, np.ndarray], row: int, width: int, height: int) -> Group:
    """A picture for each of ``fields``, one below the other, as far as there is room."""
    if not fields:
        return Group(f"row {row}: no numbers to draw")
    count = min(len(fields), max(1, height // _FIELD_LINES))
    left = [shown(name) for name in list(fields)[count:]]
    each = max(4, (height - 1 - bool(left)) // count - 2)
    names = list(fields)[:count]
    drawn: list[RenderableType] = [picture(fields[n], row, width, each, n) for n in names]
    if left:
        drawn.append(Text(f"not drawn: {', '.join(left)}", no_wrap=True, overflow="ellipsis"))
    return Group(*drawn)


def picture(values: np.ndarray, row: int, width: int, height: int, name: str = "") -> Group:
    """A line for ``values`` of one axis, a heat map for two.

    Of colours, ``(y, x, 3)`` or ``(y, x, 4)``, the mean is drawn, without the fourth, which is
    how opaque they are; of other values of more axes the first of the others.
    """
    shape, drawn_as = "x".join(map(str, values.shape)), ""
    while values.ndim > 2:
        if values.ndim == 3 and values.shape[-1] in (3, 4) and values.shape[-2] > 4:
            values, drawn_as = values[..., :3].mean(axis=-1), "  mean of the colours"
        else:
            values = values[0]
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    field = f"  {shown(name)}" if name else ""
    title = Text(f"row {row}{field}  {shape}{drawn_as}  {short(low)} to {short(high)}")
    levels = _levels(values, float(low), float(high))
    drawn = (
        line_plot(levels, width, height) if values.ndim == 1 else heat_map(levels, width, height)
    )
    return Group(title, drawn)


def line_plot(levels: np.ndarray, width: int, height: int) -> Text:
    """``levels`` from 0 to 1 as a line, ``height`` characters high; NaN is left out."""
    count = min(width, len(levels))
    dots = np.zeros((2 * height, count), bool)
    for column, part in enumerate(np.array_split(levels, count) if count else []):
        part = part[~np.isnan(part)]
        if part.size:
            top, bottom = np.round((1 - np.array([part.max(), part.min()])) * (2 * height - 1))
            dots[int(top) : int(bottom) + 1, column] = True
    cells = dots[::2] + 2 * dots[1::2].astype(int)
    return Text("\n".join("".join(" ▀▄█"[cell] for cell in row) for row in cells))


def heat_map(levels: np.ndarray, width: int, height: int) -> Text:
    """``levels`` from 0 to 1 in colours, two to a character, in the proportions of the frame."""
    if not levels.size:
        return Text("")
    rows, columns = levels.shape
    scale = max(rows / (2 * height), columns / width, 1.0)
    small = _shrunk(_shrunk(levels, max(1, int(rows / scale)), 0), max(1, int(columns / scale)), 1)
    if len(small) % 2:
        small = np.vstack([small, np.full((1, small.shape[1]), np.nan)])
    text = Text()
    for above, below in zip(small[::2], small[1::2], strict=True):
        for upper, lower in zip(above, below, strict=True):
            text.append("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))
        text.append("\n")
    return text


def _levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    levels = np.where(np.isfinite(values), values, np.nan).astype(float)
    return (levels - low) / (high - low) if high > low else levels - low


def _shrunk(levels: np.ndarray, count: int, axis: int) -> np.ndarray:
    """The mean of neighbours, so that ``count`` are left along ``axis``."""
    length = levels.shape[axis]
    at = np.arange(count) * length // count
    sums = np.add.reduceat(levels, at, axis)
    shape = [1, 1]
    shape[axis] = count
    return np.asarray(sums / np.diff(np.append(at, length)).reshape(shape))


def _colour(level: float) -> str:
    if np.isnan(level):
        return "#000000"
    at = min(max(level, 0.0), 1.0) * (len(_COLOURS) - 1)
    below = min(int(at), len(_COLOURS) - 2)
    mixed = _COLOURS[below] + (_COLOURS[below + 1] - _COLOURS[below]) * (at - below)
    return "#{:02x}{:02x}{:02x}".format(*mixed.round().astype(int))
