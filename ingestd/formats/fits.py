"""``.fits``: each image and each binary table is a member, called by its name or its number.

A 2-D image of y lines of x pixels is one row, ``(1, y, x)``; a cube has its rows along its slowest
axis; a table has a row for each of its own, as a compound. Headers come from astropy, rows from
the file itself, so that no more than a slab is held; a file that ends early is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np
from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import STILL_WRITTEN, ArrayInfo, FormatOptions
from ingestd.formats.fitsvalues import Table, as_scaled, image_dtype, table
from ingestd.formats.library import RATIO_MAX, LibraryFile, check_ratio, library_errors

BLOCK_BYTES = 2880
HDUS_MAX = 10_000
AXES_MAX = 32
_MAGIC = b"SIMPLE  ="
_EXPECTED = "a FITS file, whole"
_REMEDY = f"Save it again (astropy.io.fits writeto), then drop it again. {STILL_WRITTEN}"


class FitsOptions(FormatOptions):
    """``hdu``: take this one HDU only, by its name (``EXTNAME``) or its number (0 is the primary);
    it is then called ``data``.

    ``ratio_max``: how many bytes of pixels one byte of a tile-compressed image may promise, above
    64 MiB.
    """

    hdu: int | str | None = None
    ratio_max: int = Field(default=RATIO_MAX, ge=1)


class Fits:
    """The format ``fits``. A run of ``slabs`` takes two slabs of memory, and three where values
    are scaled; of a compressed image also the tiles that a row crosses."""

    name: str = "fits"
    suffixes: tuple[str, ...] = (".fits", ".fit", ".fts", ".fits.fz")
    extra: str | None = "fits"
    requires: tuple[str, ...] = ("astropy",)
    Options: type[FormatOptions] = FitsOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith(_MAGIC)

    def open(self, file: BinaryIO, options: FormatOptions) -> FitsFile:
        """Read all headers, and hold what they promise against the file's size."""
        assert isinstance(options, FitsOptions), options
        source = LibraryFile(file)
        head = source.read_at(0, len(_MAGIC))
        if head != _MAGIC:
            raise _bad(f"it starts with {head!r}" if head else "the file is empty")
        with library_errors(source, _EXPECTED, _REMEDY):
            return FitsFile(_members(source, options))


class FitsFile:
    """An open ``.fits``."""

    plain: int | None = None

    def __init__(self, hdus: dict[str, _Member]) -> None:
        self._hdus = hdus
        self.members: Mapping[str, ArrayInfo] = {name: hdu.info for name, hdu in hdus.items()}

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        info, rows = self.members[member], self._hdus[member]
        count, step = info.shape[0] or 0, info.slab_rows(slab_bytes)
        for start in range(0, count, step):
            yield rows.read(start, min(step, count - start))


class _Member(Protocol):
    info: ArrayInfo

    def read(self, start: int, count: int) -> np.ndarray:
        """Rows ``start`` to ``start + count``, fresh."""
        ...


class _Image:
    """An image, stored as it is."""

    def __init__(self, source: LibraryFile, header: Any, offset: int) -> None:
        self._source, self._offset = source, offset
        self._stored, dtype, self._scale = image_dtype(header)
        shape = _shape(header)
        self.info = ArrayInfo(dtype, shape)
        self._row_shape = shape[1:]

    def read(self, start: int, count: int) -> np.ndarray:
        row_bytes = math.prod(self._row_shape) * self._stored.itemsize
        values = np.empty((count, *self._row_shape), self._stored)
        _read(self._source, self._offset + start * row_bytes, values)
        return as_scaled(values, self.info.dtype, self._scale)


class _CompressedImage:
    """An image in compressed tiles: astropy reads those that are asked for."""

    def __init__(self, source: LibraryFile, hdu: Any, options: FitsOptions, packed: int) -> None:
        self._source, self._hdu = source, hdu
        _, dtype, self._scale = image_dtype(hdu.header)
        self.info = ArrayInfo(dtype, _shape(hdu.header))
        tile_bytes = math.prod(hdu.tile_shape) * max(4, dtype.itemsize)
        promised_bytes = math.prod(n or 0 for n in self.info.shape) * dtype.itemsize
        check_ratio(max(tile_bytes, promised_bytes), packed, options.ratio_max, "fits")

    def read(self, start: int, count: int) -> np.ndarray:
        with library_errors(self._source, _EXPECTED, _REMEDY):
            one_row = self._hdu.header["NAXIS"] <= 2
            values = np.asarray(
                self._hdu.section[...] if one_row else self._hdu.section[start : start + count]
            )
            return as_scaled(
                values.reshape((count, *self.info.shape[1:])),  # type: ignore[arg-type]
                self.info.dtype,
                self._scale,
            )


class _Table:
    """A binary table."""

    def __init__(self, source: LibraryFile, made: Table, rows: int, offset: int) -> None:
        self._source, self._table, self._offset = source, made, offset
        self.info = ArrayInfo(made.dtype, (rows,))

    def read(self, start: int, count: int) -> np.ndarray:
        values = np.empty(count, self._table.stored)
        _read(self._source, self._offset + start * self._table.row_bytes, values)
        return self._table.rows(values)


def _members(source: LibraryFile, options: FitsOptions) -> dict[str, _Member]:
    from astropy.io import fits

    found: dict[str, _Member] = {}
    unusable: list[str] = []
    count = 0
    asked = None if options.hdu is None else str(options.hdu).upper()
    for number, hdu in enumerate(_hdus(fits, source)):
        count = number + 1
        if asked not in (None, str(number), hdu.name.upper()) or not hdu.fileinfo()["datSpan"]:
            continue
        try:
            found[_name(hdu, number, found)] = _member(fits, source, hdu, options)
        except _Unusable as why:
            unusable.append(f"HDU {number} {why}")
    if not found:
        raise BadFile(
            "an image or a binary table"
            + (f" in HDU {options.hdu!r} ('hdu')" if options.hdu is not None else ""),
            "; ".join(unusable) or f"{count} HDUs, none of which is one with data",
            "Save the data as images or as binary tables of fixed-width columns, then drop it "
            "again.",
        )
    return {"data": next(iter(found.values()))} if options.hdu is not None else found


def _hdus(fits: Any, source: LibraryFile) -> Iterator[Any]:
    """Each HDU, whose data is all in the file."""
    source.seek(0)
    # Scaling is done here, slab by slab: astropy would hold the whole image.
    hdus = fits.open(source, memmap=False, do_not_scale_image_data=True, lazy_load_hdus=True)
    end = number = 0
    while end < source.size_bytes:
        if number == HDUS_MAX:
            raise _bad(f"it has more than {HDUS_MAX:,} HDUs")
        try:
            hdu = hdus[number]
        except IndexError:
            if any(source.read_at(end, BLOCK_BYTES)):
                raise _bad(f"what follows HDU {number - 1}, at byte {end:,}, is no HDU") from None
            return
        place = hdu.fileinfo()
        end = place["datLoc"] + place["datSpan"]
        if end > source.size_bytes:
            raise _cut_short(end, source.size_bytes)
        yield hdu
        number += 1


class _Unusable(Exception):
    """An HDU holds what rows cannot be made of; the file's others may be good."""


def _member(fits: Any, source: LibraryFile, hdu: Any, options: FitsOptions) -> _Member:
    header, place = hdu.header, hdu.fileinfo()
    if isinstance(hdu, fits.CompImageHDU):
        return _CompressedImage(source, hdu, options, place["datSpan"])
    if isinstance(hdu, fits.BinTableHDU):
        try:
            made = table(header)
        except ValueError as error:
            raise _Unusable(str(error)) from None
        rows = int(header["NAXIS2"])
        _check_size(source, place["datLoc"], rows * made.row_bytes)
        return _Table(source, made, rows, place["datLoc"])
    if isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU) and not isinstance(hdu, fits.GroupsHDU):
        image = _Image(source, header, place["datLoc"])
        items = math.prod(n or 0 for n in image.info.shape)
        _check_size(source, place["datLoc"], items * abs(int(header["BITPIX"])) // 8)
        return image
    raise _Unusable(f"is of the kind {type(hdu).__name__}")


def _name(hdu: Any, number: int, taken: Mapping[str, Any]) -> str:
    name = str(hdu.name).strip()
    return name if name and name not in taken else str(number)


def _shape(header: Any) -> tuple[int, ...]:
    axes = int(header["NAXIS"])
    shape = tuple(int(header[f"NAXIS{axis}"]) for axis in range(axes, 0, -1))
    if axes > AXES_MAX or any(n < 0 for n in shape):
        raise _bad(f"its axes are {shape}")
    return shape if axes > 2 or axes == 1 else (1, *shape)


def _check_size(source: LibraryFile, offset: int, data_bytes: int) -> None:
    if offset + data_bytes > source.size_bytes:
        raise _cut_short(offset + data_bytes, source.size_bytes)


def _read(source: LibraryFile, offset: int, values: np.ndarray) -> np.ndarray:
    found_bytes = source.fill(offset, values)
    if found_bytes < values.nbytes:
        raise _cut_short(offset + values.nbytes, offset + found_bytes)
    return values


def _cut_short(expected_bytes: int, found_bytes: int) -> BadFile:
    return BadFile(
        f"{expected_bytes:,} bytes or more (FITS is written in blocks of {BLOCK_BYTES:,})",
        f"the file is cut short, at {found_bytes:,} bytes",
        _REMEDY,
    )


def _bad(found: str) -> BadFile:
    return BadFile(_EXPECTED, found, _REMEDY)
