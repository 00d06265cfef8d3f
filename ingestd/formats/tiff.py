"""``.tif``: a stack of pages as member ``data``, each page one row: ``(pages, y, x)``.

Only pages of one series (alike in shape and type) go together; all that they promise lies in the
file, or it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

import numpy as np
from pydantic import Field, field_validator

from ingestd.errors import BadFile
from ingestd.formats import STILL_WRITTEN, ArrayInfo, FormatOptions
from ingestd.formats.library import (
    RATIO_MAX,
    LibraryFile,
    LoggedErrors,
    check_ratio,
    library_errors,
)
from ingestd.formats.tiffchain import MAGICS, check_chain

_MEMBER = "data"
_EXPECTED = "a TIFF file, whole"
_REMEDY = f"Save it again with tifffile.imwrite, then drop it again. {STILL_WRITTEN}"
_LOGGED = LoggedErrors()


class TiffOptions(FormatOptions):
    """``series``: which group of like pages, counted from 0 (``tifffile FILE`` lists them).

    ``level``: which resolution of a pyramid; 0 is the full one.

    ``pages``: which pages of the series, as a Python slice: ``"10:"``, ``"::2"``, ``":-1"``.

    ``ratio_max``: how many bytes of pixels one byte of the file may promise, above 64 MiB.
    """

    series: int = Field(default=0, ge=0)
    level: int = Field(default=0, ge=0)
    pages: str = ":"
    ratio_max: int = Field(default=RATIO_MAX, ge=1)

    @field_validator("pages")
    @classmethod
    def _is_slice(cls, value: str) -> str:
        if _slice(value) is None:
            raise ValueError(f"{value!r} is no slice 'first:stop' or 'first:stop:step', step > 0")
        return value


class Tiff:
    """The format ``tiff``. A run of ``slabs`` takes one slab, or two pages, of memory."""

    name: str = "tiff"
    suffixes: tuple[str, ...] = (".tif", ".tiff", ".btf", ".tf8")
    extra: str | None = "tiff"
    requires: tuple[str, ...] = ("tifffile", "imagecodecs")
    Options: type[FormatOptions] = TiffOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith(MAGICS)

    def open(self, file: BinaryIO, options: FormatOptions) -> TiffFile:
        """Read all page directories, and hold what they promise against the file."""
        assert isinstance(options, TiffOptions), options
        source = LibraryFile(file)
        head = source.read_at(0, 4)
        if not head.startswith(MAGICS):
            raise _bad(f"it starts with {head!r}" if head else "the file is empty")
        with library_errors(source, _EXPECTED, _REMEDY), _LOGGED.raised("tifffile"):
            check_chain(source)
            from tifffile import TiffFile as Library

            source.seek(0)
            # Formats of several files would have tifffile open others by what this one says.
            tiff = Library(cast(Any, source), _multifile=False, is_mmstack=False, is_ndtiff=False)
            series = _series(tiff, options)
            return TiffFile(source, series, options)


class TiffFile:
    """An open ``.tif``."""

    plain: int | None = None

    def __init__(self, source: LibraryFile, series: Any, options: TiffOptions) -> None:
        self._source, self._series = source, series
        page = series.keyframe
        # One page is one row, whichever axes (time, z, channels) the pages are laid out along.
        self._page_shape = tuple(int(n) for n in page.shape)
        self._page_bytes = math.prod(self._page_shape) * page.dtype.itemsize
        promised = math.prod(int(n) for n in series.shape)
        count, rest = divmod(promised, math.prod(self._page_shape) or 1)
        # Pages that stand in the file as in memory, one after the other: of such stacks writers may
        # describe the first only (ImageJ's over 4 GiB).
        self._start = series.dataoffset
        if rest or not count or (self._start is None and len(series) != count):
            raise _bad(f"series {series.index} is {series.shape}, of {len(series)} pages")
        self._pages = range(count)[_slice(options.pages) or slice(None)]
        if self._start is not None:
            _check_end(source, self._start + count * self._page_bytes)
        else:
            for index in self._pages:
                self._check_page(index, options)
        dtype = np.dtype(page.dtype).newbyteorder("=")
        self.members: Mapping[str, ArrayInfo] = {
            _MEMBER: ArrayInfo(dtype, (len(self._pages), *self._page_shape))
        }

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        info = self.members[member]
        step = info.slab_rows(slab_bytes)
        for first in range(0, len(self._pages), step):
            pages = self._pages[first : first + step]
            slab = np.empty((len(pages), *self._page_shape), info.dtype)
            with library_errors(self._source, _EXPECTED, _REMEDY), _LOGGED.raised("tifffile"):
                for row, index in enumerate(pages):
                    slab[row] = self._page(index)
            yield slab

    def _page(self, index: int) -> np.ndarray:
        if self._start is None:
            array: np.ndarray = self._series[index].asarray(maxworkers=1)
            if array.shape != self._page_shape:
                raise _bad(f"page {index} is {array.shape}, the first is {self._page_shape}")
            return array
        offset = self._start + index * self._page_bytes
        order = self._series.keyframe.parent.byteorder
        page = np.empty(self._page_shape, self._series.keyframe.dtype.newbyteorder(order))
        found_bytes = self._source.fill(offset, page)
        if found_bytes < page.nbytes:
            raise _cut_short(offset + page.nbytes, offset + found_bytes)
        return page

    def _check_page(self, index: int, options: TiffOptions) -> None:
        page = self._series[index]
        if page is None:
            raise _bad(f"page {index} of series {self._series.index} is missing")
        if tuple(page.shape) != self._page_shape or page.dtype != self._series.keyframe.dtype:
            raise _bad(f"page {index} is {page.shape} {page.dtype}, the first {self._page_shape}")
        packed_bytes = 0
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            _check_end(self._source, offset + count)
            packed_bytes += count
        # Tiles are decoded whole, also where little of one lies in the picture.
        frame = page.keyframe
        tile_bytes = math.prod(frame.chunks) * frame.dtype.itemsize
        packed_bytes = min(packed_bytes, self._source.size_bytes)
        promised_bytes = max(self._page_bytes, tile_bytes)
        if frame.compression == 1 and self._page_bytes > packed_bytes * 8:
            # Uncompressed; samples of one bit are unpacked to bytes.
            raise _bad(f"page {index} promises {self._page_bytes:,} bytes and has {packed_bytes:,}")
        check_ratio(promised_bytes, packed_bytes, options.ratio_max, "tiff")


def _series(tiff: Any, options: TiffOptions) -> Any:
    found = tiff.series
    if options.series >= len(found):
        raise _absent(f"a series {options.series} ('series')", f"the file has {len(found)}")
    levels = found[options.series].levels
    if options.level >= len(levels):
        raise _absent(f"a level {options.level} ('level')", f"the series has {len(levels)}")
    return levels[options.level]


def _slice(text: str) -> slice | None:
    try:
        first, stop, *more = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError:
        return None
    step = more[0] if more else None
    if len(more) > 1 or (step is not None and step < 1):
        return None
    return slice(first, stop, step)


def _absent(expected: str, found: str) -> BadFile:
    return BadFile(
        expected, found, "Correct the 'options', or send such files to a source of their own."
    )


def _check_end(source: LibraryFile, end: int) -> None:
    if end > source.size_bytes:
        raise _cut_short(end, source.size_bytes)


def _cut_short(expected_bytes: int, found_bytes: int) -> BadFile:
    return BadFile(
        f"{expected_bytes:,} bytes or more",
        f"the file is cut short, at {found_bytes:,} bytes",
        _REMEDY,
    )


def _bad(found: str) -> BadFile:
    return BadFile(_EXPECTED, found, _REMEDY)
