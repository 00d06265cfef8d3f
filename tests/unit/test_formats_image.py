"""Pictures: which pixels become a row, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from contract.format_cases import open_bytes

from ingestd.errors import BadFile

Image = pytest.importorskip("PIL.Image", reason="pip install 'ingestd[image]'")

PIXELS = np.random.default_rng(3).integers(0, 255, (9, 7, 3)).astype(np.uint8)


def encode(image: object, kind: str = "PNG", **how: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)  # type: ignore[attr-defined]
    return out.getvalue()


def row(data: bytes, **options: object) -> np.ndarray:
    (found,) = open_bytes("image", data, **options).slabs("data", 1 << 20)
    return found


def png(width: int, height: int, depth: int = 8, color: int = 0, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return len(body).to_bytes(4, "big") + kind + body + check.to_bytes(4, "big")

    header = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def test_a_palette_becomes_the_colours_that_it_stands_for() -> None:
    image = Image.fromarray(PIXELS).quantize(8)
    clear = encode(image, transparency=0)

    np.testing.assert_array_equal(row(encode(image))[0], np.array(image.convert("RGB")))
    assert row(clear).shape == (1, 9, 7, 4)


@pytest.mark.parametrize(("color", "mode"), [("gray", "L"), ("rgb", "RGB"), ("rgba", "RGBA")])
@pytest.mark.parametrize("stored", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_colours_are_made_alike_if_asked(color: str, mode: str, stored: str) -> None:
    image = Image.fromarray(PIXELS).convert(stored)

    found = row(encode(image), color=color)

    np.testing.assert_array_equal(found[0], np.array(image.convert(mode)))


def test_gray_of_16_bits_is_not_cut_to_8() -> None:
    image = Image.fromarray(np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000)

    with pytest.raises(BadFile, match="16 bits"):
        row(encode(image), color="rgb")


def test_colour_of_16_bits_is_refused_and_not_cut_to_8() -> None:
    with pytest.raises(BadFile, match="colour of 16 bits"):
        row(png(2, 1, depth=16, color=2, data=bytes(13)))


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_a_picture_that_promises_more_than_its_bytes_is_refused(side: int) -> None:
    with pytest.raises(BadFile):
        open_bytes("image", png(side, side, data=bytes(100)))


def test_many_pixels_are_no_bomb_if_the_file_has_the_bytes() -> None:
    side = 10_000  # Pillow itself warns of so many

    found = row(png(side, side, depth=1, data=bytes((side // 8 + 1) * side)), ratio_max=10_000)

    assert found.shape == (1, side, side) and found.dtype == bool


def test_an_animation_is_refused() -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)

    with pytest.raises(BadFile, match="2 frames"):
        row(encode(first, save_all=True, append_images=[second]))


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(encode(Image.fromarray(PIXELS)))
    data[data.index(b"IDAT") + 12] ^= 1

    with pytest.raises(BadFile, match="checksum"):
        row(bytes(data))


def test_what_follows_a_jpeg_is_left_alone() -> None:
    data = encode(Image.fromarray(PIXELS), "JPEG")

    np.testing.assert_array_equal(row(data + bytes(100)), row(data))


def test_a_jpeg_whose_thumbnail_is_whole_may_be_cut_short_itself() -> None:
    thumbnail = encode(Image.fromarray(PIXELS[:2, :2]), "JPEG")
    data = encode(Image.fromarray(PIXELS), "JPEG", comment=thumbnail)

    with pytest.raises(BadFile, match="cut short"):
        row(data[:-2])
