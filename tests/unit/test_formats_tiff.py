"""TIFF: which pages become rows, and what is refused before memory is taken."""

from __future__ import annotations

import io
import logging
import struct

import numpy as np
import pytest
from contract.format_cases import open_bytes

from ingestd.errors import BadFile
from ingestd.formats.registry import FORMATS

tifffile = pytest.importorskip("tifffile", reason="pip install 'ingestd[tiff]'")
pytest.importorskip("imagecodecs", reason="pip install 'ingestd[tiff]'")

FRAMES = np.arange(12 * 20 * 30, dtype=np.uint16).reshape(12, 20, 30)


def encode(*arrays: np.ndarray, **how: object) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for array in arrays:
            writer.write(array, **how)
    return out.getvalue()


def rows(data: bytes, **options: object) -> np.ndarray:
    return np.concatenate(list(open_bytes("tiff", data, **options).slabs("data", 5000)))


def with_tag(data: bytes, code: int, value: int) -> bytes:
    """The value of the tag ``code`` of the first page of a classic little-endian file, replaced."""
    (offset,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    for at in range(offset + 2, offset + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] == code:
            return data[: at + 2] + struct.pack("<HLL", 4, 1, value) + data[at + 12 :]
    raise AssertionError(code)


@pytest.mark.parametrize("pages", ["3:9:2", "10:", ":-1", "::5", " 2 : 3 "])
def test_pages_are_chosen_as_python_slices(pages: str) -> None:
    first, stop, *step = [int(n) if n.strip() else None for n in pages.split(":")]

    found = rows(encode(FRAMES), pages=pages)

    np.testing.assert_array_equal(found, FRAMES[slice(first, stop, *step)])


@pytest.mark.parametrize("pages", ["3", "a:b", "::-1", "::0", "1:2:3:4"])
def test_other_choices_of_pages_are_refused_with_the_config(pages: str) -> None:
    with pytest.raises(ValueError, match="no slice"):
        FORMATS["tiff"].Options(pages=pages)


def test_a_series_is_chosen_by_its_number() -> None:
    data = encode(FRAMES, FRAMES[:2, :5].astype(np.float32))

    assert rows(data).shape == (12, 20, 30)
    np.testing.assert_array_equal(rows(data, series=1), FRAMES[:2, :5].astype(np.float32))
    with pytest.raises(BadFile, match="the file has 2"):
        rows(data, series=2)


def test_a_level_of_a_pyramid_is_chosen_by_its_number() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(FRAMES, subifds=1)
        writer.write(FRAMES[:, ::2, ::2], subfiletype=1)

    np.testing.assert_array_equal(rows(out.getvalue()), FRAMES)
    np.testing.assert_array_equal(rows(out.getvalue(), level=1), FRAMES[:, ::2, ::2])
    with pytest.raises(BadFile, match="the series has 2"):
        rows(out.getvalue(), level=2)


def test_pages_along_several_axes_are_rows_one_after_the_other() -> None:
    found = rows(encode(FRAMES.reshape(2, 3, 2, 20, 30)))

    np.testing.assert_array_equal(found, FRAMES)


@pytest.mark.parametrize("compression", [None, "zlib", "zstd", "lzw"])
def test_a_page_that_promises_more_pixels_than_it_has_bytes_is_refused(
    compression: str | None,
) -> None:
    data = encode(FRAMES[0], compression=compression, metadata=None, rowsperstrip=20)
    data = with_tag(with_tag(data, 256, 1 << 20), 257, 1 << 20)

    with pytest.raises(BadFile):
        open_bytes("tiff", data)


def test_tiles_that_promise_more_than_their_bytes_are_refused() -> None:
    data = encode(FRAMES[0], compression="zlib", tile=(32, 32), metadata=None)
    data = with_tag(with_tag(data, 322, 1 << 20), 323, 1 << 20)

    with pytest.raises(BadFile, match="'ratio_max'"):
        open_bytes("tiff", data)


def test_pages_that_point_in_a_circle_are_refused() -> None:
    data = bytearray(encode(FRAMES[0], metadata=None))
    (offset,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    struct.pack_into("<L", data, offset + 2 + 12 * count, offset)

    with pytest.raises(BadFile, match="points back"):
        open_bytes("tiff", bytes(data))


def test_a_page_that_cannot_be_decoded_is_refused() -> None:
    data = bytearray(encode(FRAMES[0], compression="zlib", metadata=None))
    start = data.index(b"\x78")
    data[start : start + 40] = bytes(40)

    with pytest.raises(BadFile, match="cannot be read"):
        rows(bytes(data))


def test_nothing_that_the_library_logs_gets_out(caplog: pytest.LogCaptureFixture) -> None:
    data = encode(FRAMES[0], description="[]", metadata=None)
    data = with_tag(data, 305, 2**31 - 1)

    with caplog.at_level(logging.DEBUG), pytest.raises(BadFile):
        rows(data[:-1])

    assert not caplog.records


def test_other_files_that_an_ome_header_names_are_not_opened(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    with tifffile.TiffWriter("other.tif") as writer:
        writer.write(FRAMES[1], metadata=None)
    ome = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="30" '
        'SizeY="20" SizeC="1" SizeZ="1" SizeT="2"><Channel ID="Channel:0:0"/>'
        '<TiffData IFD="0" FirstT="0" PlaneCount="1"><UUID FileName="this.tif">urn:uuid:'
        "a0000000-0000-0000-0000-000000000000</UUID></TiffData>"
        '<TiffData IFD="0" FirstT="1" PlaneCount="1"><UUID FileName="other.tif">urn:uuid:'
        "b0000000-0000-0000-0000-000000000000</UUID></TiffData></Pixels></Image></OME>"
    )
    data = encode(FRAMES[0], description=ome, metadata=None)

    try:
        found = rows(data)
    except BadFile:
        return
    np.testing.assert_array_equal(found, FRAMES[:1])
