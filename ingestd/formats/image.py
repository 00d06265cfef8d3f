"""``.png``, ``.jpeg`` and ``.bmp``: one picture, which is one row, as member ``data``.

A picture of y lines of x pixels is ``(1, y, x)``, in colour ``(1, y, x, channels)``. It is whole,
with all its checksums right, or it is refused.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import STILL_WRITTEN, ArrayInfo, FormatOptions
from ingestd.formats.library import RATIO_MAX, LibraryFile, check_ratio, library_errors

_MEMBER = "data"
_PNG, _JPEG, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"
_PIECE_BYTES = 256 * 1024
_EXPECTED = "a PNG, JPEG or BMP picture, whole"
_REMEDY = f"Save the picture again as PNG, then drop it again. {STILL_WRITTEN}"
_WANTED = {"gray": "L", "rgb": "RGB", "rgba": "RGBA"}
_CHANNELS = {"1": 0, "L": 0, "I;16": 0, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
# In a JPEG's coded data FF stands before 00, a restart mark, or the marker that ends it.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


class ImageOptions(FormatOptions):
    """``color``: what the pixels become. ``stored``: what they are in the file: gray (8 or 16
    bits, bool where they have one bit), RGB, RGBA, CMYK; a palette's pixels become RGB, or RGBA
    where it has transparent colours. ``gray`` (ITU-R 601), ``rgb`` and ``rgba`` convert all of
    them to 8 bits alike.

    ``ratio_max``: how many bytes of pixels one byte of the file may promise, above 64 MiB.
    """

    color: Literal["stored", "gray", "rgb", "rgba"] = "stored"
    ratio_max: int = Field(default=RATIO_MAX, ge=1)


class Image:
    """The format ``image``. A run of ``slabs`` takes three pictures of memory."""

    name: str = "image"
    suffixes: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp")
    extra: str | None = "image"
    requires: tuple[str, ...] = ("PIL",)
    Options: type[FormatOptions] = ImageOptions

    def sniff(self, head: bytes) -> bool:
        # "BM" alone begins many a text: a BMP's reserved bytes are 0, and its headers have a size.
        bmp = head.startswith(_BMP) and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS
        return head.startswith((_PNG, _JPEG)) or bmp

    def open(self, file: BinaryIO, options: FormatOptions) -> ImageFile:
        """Read the picture's header and follow its parts to the end; no pixel is decoded yet."""
        assert isinstance(options, ImageOptions), options
        source = LibraryFile(file)
        head = source.read_at(0, 64)
        if head.startswith(_PNG):
            _check_png(source)
        elif head.startswith(_JPEG):
            _check_jpeg(source)
        elif head.startswith(_BMP) and len(head) >= 14:
            _check_bmp(source, head)
        else:
            raise _bad(f"it starts with {head[:8]!r}" if head else "the file is empty")
        return ImageFile(source, options, head)


class ImageFile:
    """An open picture."""

    plain: int | None = None

    def __init__(self, source: LibraryFile, options: ImageOptions, head: bytes) -> None:
        self._source, self._head = source, head
        with library_errors(source, _EXPECTED, _REMEDY):
            image = self._opened()
            if getattr(image, "is_animated", False):
                raise BadFile(
                    "one picture in each file",
                    f"it is animated, of {image.n_frames} frames",
                    "Save its frames as a TIFF stack, or one to each file, then drop them.",
                )
            self._mode = _mode(image, options.color)
            width, height = image.size
        dtype = {"1": np.dtype(bool), "I;16": np.dtype(np.uint16)}.get(
            self._mode, np.dtype(np.uint8)
        )
        channels = _CHANNELS[self._mode]
        self._shape = (height, width, channels) if channels else (height, width)
        # Pillow holds 4 bytes for each pixel in colour.
        pixel_bytes = max(dtype.itemsize, 4 if channels else 1)
        check_ratio(width * height * pixel_bytes, source.size_bytes, options.ratio_max, "image")
        self.members: Mapping[str, ArrayInfo] = {_MEMBER: ArrayInfo(dtype, (1, *self._shape))}

    def slabs(
        self, member: str, slab_bytes: int, dtype: np.dtype[Any] | None = None
    ) -> Iterator[np.ndarray]:
        info = self.members[member]
        with library_errors(self._source, _EXPECTED, _REMEDY):
            image = self._opened()
            image.load()
            image = image if image.mode == self._mode else image.convert(self._mode)
            pixels = np.array(image)
            if pixels.dtype == np.bool_:
                pixels = pixels.view(np.uint8) != 0  # Pillow's True is a byte of 255
        if pixels.shape != self._shape:
            raise _bad(f"its pixels are {pixels.shape}, its header says {self._shape}")
        yield pixels.astype(info.dtype, copy=False)[None]

    def _opened(self) -> Any:
        # Not PIL.Image.open: that has limits of its own, in pixels, which only warn.
        from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

        self._source.seek(0)
        file = cast(BinaryIO, self._source)
        if self._head.startswith(_PNG):
            return PngImagePlugin.PngImageFile(file)
        if self._head.startswith(_JPEG):
            return JpegImagePlugin.JpegImageFile(file)
        return BmpImagePlugin.BmpImageFile(file)


def _mode(image: Any, color: str) -> str:
    """The Pillow mode that the pixels shall have."""
    mode: str = image.mode
    if mode == "P":
        mode = "RGBA" if "transparency" in image.info else "RGB"
    if mode not in _CHANNELS:
        raise _bad(f"its pixels are of the kind {mode!r}")
    if color == "stored":
        return mode
    if mode == "I;16":
        raise BadFile(
            f"a picture that can be made {color} ('color')",
            "its pixels are gray of 16 bits, which 8 bits cannot hold",
            "Set 'color: stored' in 'options', then drop it again.",
        )
    return _WANTED[color]


def _check_png(source: LibraryFile) -> None:
    """Follow the chunks of a PNG up to its IEND, and check their sums, which Pillow does not."""
    offset = len(_PNG)
    while True:
        head = source.read_at(offset, 8)
        size_bytes, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or offset + size_bytes + 12 > source.size_bytes:
            raise _cut_short(source, offset + size_bytes + 12)
        check, left = zlib.crc32(kind), size_bytes
        first = b""
        while left:
            piece = source.read(min(left, _PIECE_BYTES))
            if not piece:
                raise _cut_short(source, offset + size_bytes + 12)
            first = first or piece
            check, left = zlib.crc32(piece, check), left - len(piece)
        if int.from_bytes(source.read(4), "big") != check:
            raise _bad(f"the checksum of its chunk {kind!r} is wrong")
        if kind == b"IHDR" and len(first) >= 10 and first[8] == 16 and first[9] != 0:
            raise BadFile(
                "a PNG of 16 bits in gray, or of 8 bits in colour",
                "it has colour of 16 bits, which Pillow would cut to 8",
                "Save it as TIFF, then drop that.",
            )
        if kind == b"IEND":
            return
        offset += size_bytes + 12


def _check_jpeg(source: LibraryFile) -> None:
    """Follow the segments of a JPEG up to its end marker, without which its lines may lack."""
    offset = 2
    while True:
        head = source.read_at(offset, 4)
        if len(head) >= 2 and head[0] != 0xFF:
            raise _bad(f"there is no JPEG marker at byte {offset:,}")
        if head[:2] == b"\xff\xd9":
            return
        if len(head) < 4:
            raise _cut_short(source, offset + 4)
        if head[1] == 0xFF:  # a marker may have any number of these before it
            offset += 1
            continue
        offset += 2 + int.from_bytes(head[2:], "big")
        if head[1] == 0xDA:
            offset = _next_marker(source, offset)


def _next_marker(source: LibraryFile, offset: int) -> int:
    while True:
        piece = source.read_at(offset, _PIECE_BYTES)
        if len(piece) < 2:
            raise _cut_short(source, offset + 2)
        found = _JPEG_MARKER.search(piece)
        if found:
            return offset + found.start()
        offset += len(piece) - 1  # its last byte may begin a marker


def _check_bmp(source: LibraryFile, head: bytes) -> None:
    promised_bytes = int.from_bytes(head[2:6], "little")  # 0: some writers leave it out
    if promised_bytes > source.size_bytes:
        raise _cut_short(source, promised_bytes)


_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}


def _cut_short(source: LibraryFile, expected_bytes: int) -> BadFile:
    return BadFile(
        f"{expected_bytes:,} bytes or more",
        f"the picture is cut short, at {source.size_bytes:,} bytes",
        _REMEDY,
    )


def _bad(found: str) -> BadFile:
    return BadFile(_EXPECTED, found, _REMEDY)
