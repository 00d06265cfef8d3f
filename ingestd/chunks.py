"""What makes a chunk, HDF5's unit of storage: some rows, or a part of one. Numbers in and out."""

from __future__ import annotations

import math
from dataclasses import dataclass

CHUNK_BYTES = 1 << 20
"""About so large is a chunk that nobody asked otherwise for."""

_LEAST, _MOST = CHUNK_BYTES // 2, CHUNK_BYTES * 2
"""Between these, a chunk that fits the files is better than one nearer to ``CHUNK_BYTES``."""

_PART_BYTES_MIN = CHUNK_BYTES // 8

_SMALL_FILE_BYTES = 4 << 10
_SMALL_FILES_BYTES = 16 << 10
_UNKNOWN_FILE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """Chunks of ``rows`` rows; ``file_rows`` are those of one drop file, None: not known.

    ``shape``: of chunks that are only a part of their rows, in values of ``value_bytes``.
    """

    rows: int
    row_bytes: int
    file_rows: int | None = None
    shape: tuple[int, ...] = ()
    value_bytes: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of one chunk, before compression."""
        return math.prod(self.shape) * self.value_bytes or self.rows * self.row_bytes

    def __str__(self) -> str:
        if self.shape:
            text = f"chunks of {' x '.join(map(str, self.shape))} = {_size(self.nbytes)}"
            parts = self.rows * self.row_bytes / self.nbytes
            return f"{text}; one row fills {_short(parts)}" if self.rows == 1 else text
        text = f"chunks of {self.rows} row{'s' * (self.rows != 1)} = {_size(self.nbytes)}"
        if not self.file_rows:
            return text
        if self.file_rows >= self.rows:
            return f"{text}; one file fills {_short(self.file_rows / self.rows)}"
        return f"{text}; one holds {_short(self.rows / self.file_rows)} files"


def plan_chunks(
    row_bytes: int,
    file_rows: int | None = None,
    *,
    compressed: bool = False,
    asked: int | None = None,
    row_shape: tuple[int, ...] = (),
) -> ChunkPlan:
    """The chunks of a dataset whose files hold about ``file_rows`` rows; ``asked`` wins.

    With ``row_shape`` a large row may be several, one after the other.
    """
    file_rows = file_rows or None
    if asked is not None:
        rows = asked
    elif compressed:
        rows = _compressed(row_bytes, file_rows)
    else:
        rows = _aligned(row_bytes, file_rows) or _filling(CHUNK_BYTES, row_bytes)
        if row_bytes > CHUNK_BYTES and row_shape:
            value_bytes = row_bytes // math.prod(row_shape)
            part = _part(row_shape, value_bytes)
            return ChunkPlan(1, row_bytes, file_rows, part, value_bytes if part else 0)
    return ChunkPlan(rows, row_bytes, file_rows)


def _compressed(row_bytes: int, file_rows: int | None) -> int:
    # A chunk that a commit leaves partly filled is compressed again by the next, to a new place;
    # SWMR never recycles the old one. Files that end where chunks end leave none.
    if file_rows is None:
        return _filling(_UNKNOWN_FILE_BYTES, row_bytes)
    file_bytes = file_rows * row_bytes
    if file_bytes < _SMALL_FILE_BYTES:
        return file_rows * math.ceil(_SMALL_FILES_BYTES / file_bytes)
    if file_bytes <= CHUNK_BYTES:
        return file_rows
    return _aligned(row_bytes, file_rows) or _filling(CHUNK_BYTES, row_bytes)


def _aligned(row_bytes: int, file_rows: int | None) -> int | None:
    """Nearest to ``CHUNK_BYTES``, a size of which files are multiples, or which is one of them."""
    if file_rows is None:
        return None
    # At most 1.5 million, of rows of one byte; less than 0.2 s, once in a dataset's life.
    fitting = [
        rows
        for rows in range(max(1, -(-_LEAST // row_bytes)), _MOST // row_bytes + 1)
        if file_rows % rows == 0 or rows % file_rows == 0
    ]
    return min(
        fitting, key=lambda rows: abs(math.log(rows * row_bytes / CHUNK_BYTES)), default=None
    )


def _part(row_shape: tuple[int, ...], value_bytes: int) -> tuple[int, ...]:
    """The largest chunk of at most ``CHUNK_BYTES`` of which a row is several, none cut short.

    (): there is none of a reasonable size.
    """
    step, axis = value_bytes, len(row_shape) - 1
    while axis and step * row_shape[axis] <= CHUNK_BYTES:
        step *= row_shape[axis]
        axis -= 1
    size = row_shape[axis]
    count = next((n for n in range(min(size, CHUNK_BYTES // step), 0, -1) if size % n == 0), 0)
    if count * step < _PART_BYTES_MIN:
        return ()
    return (1, *(1,) * axis, count, *row_shape[axis + 1 :])


def _filling(nbytes: int, row_bytes: int) -> int:
    return max(1, nbytes // row_bytes)


def _size(nbytes: int) -> str:
    if nbytes >= 1 << 20:
        return f"{_short(nbytes / 2**20)} MiB"
    if nbytes >= 1 << 10:
        return f"{_short(nbytes / 2**10)} KiB"
    return f"{nbytes} bytes"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
