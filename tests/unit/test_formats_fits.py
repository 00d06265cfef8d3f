"""FITS: which HDUs are members, how values are scaled, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from contract.format_cases import open_bytes

from ingestd.errors import BadFile
from ingestd.formats import OpenFile

fits = pytest.importorskip("astropy.io.fits", reason="pip install 'ingestd[fits]'")

INTS = np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5)


def encode(*hdus: object) -> bytes:
    out = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(out)
    return out.getvalue()


def image(array: np.ndarray, **cards: object) -> bytes:
    """An image whose header says more of its values."""
    hdu = fits.PrimaryHDU(array)
    hdu.header.update(cards)
    return encode(hdu)


def rows(opened: OpenFile, member: str = "PRIMARY") -> np.ndarray:
    return np.concatenate(list(opened.slabs(member, 40)))


def header(**cards: object) -> bytes:
    lines = [f"{key:<8}= {value!s:>20}".ljust(80) for key, value in cards.items()]
    text = "".join(lines) + "END".ljust(80)
    return text.encode().ljust(-(-len(text) // 2880) * 2880)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_integers_signed_and_unsigned_and_floats_are_exact(dtype: str) -> None:
    info = np.iinfo(dtype) if dtype[0] in "iu" else np.finfo(dtype)
    array = np.array([[info.min, info.max, 0, 1], [3, 7, 0, 1]], dtype)

    opened = open_bytes("fits", encode(fits.PrimaryHDU(array)))

    found = rows(opened)
    assert found.dtype == dtype and found.shape == (1, 2, 4)
    np.testing.assert_array_equal(found[0], array)


def test_scaled_and_blank_values_are_as_astropy_has_them() -> None:
    data = image(INTS, BSCALE=0.25, BZERO=10.0, BLANK=-3)

    found = rows(open_bytes("fits", data))

    with fits.open(io.BytesIO(data)) as hdus:
        np.testing.assert_array_equal(found, hdus[0].data)
    assert found.dtype == np.float32 and np.isnan(found).sum() == 1


def test_scaled_columns_are_as_astropy_has_them() -> None:
    columns = [
        fits.Column("t", "I", array=np.arange(6)),
        fits.Column("bits", "11X", array=np.ones((6, 11), bool)),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="T")
    table.header.update(TSCAL1=0.5, TZERO1=3.0)
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(out)

    found = rows(open_bytes("fits", out.getvalue()), "T")

    np.testing.assert_array_equal(found["t"], np.arange(6) * 0.5 + 3)
    assert found["bits"].tolist() == [[255, 224]] * 6


def test_hdus_are_members_by_name_or_number_and_chosen_by_either() -> None:
    data = encode(
        fits.PrimaryHDU(),
        fits.ImageHDU(INTS, name="SCI"),
        fits.ImageHDU(INTS[0]),
        fits.ImageHDU(INTS[0, 0], name="SCI"),
    )

    shapes = {name: info.shape for name, info in open_bytes("fits", data).members.items()}

    assert shapes == {"SCI": (3, 4, 5), "2": (1, 4, 5), "3": (5,)}
    for hdu, shape in [(1, (3, 4, 5)), ("sci", (3, 4, 5)), (2, (1, 4, 5)), ("2", (1, 4, 5))]:
        members = open_bytes("fits", data, hdu=hdu).members
        assert {name: info.shape for name, info in members.items()} == {"data": shape}
    with pytest.raises(BadFile, match="'hdu'"):
        open_bytes("fits", data, hdu="BKG")


def test_a_table_of_variable_length_is_left_out_or_refused_if_there_is_nothing_else() -> None:
    lists = np.array([[1, 2], [3]], dtype=object)
    table = fits.BinTableHDU.from_columns([fits.Column("v", "PJ()", array=lists)])

    with pytest.raises(BadFile, match="variable length"):
        open_bytes("fits", encode(fits.PrimaryHDU(), table))

    assert list(open_bytes("fits", encode(fits.PrimaryHDU(INTS), table)).members) == ["PRIMARY"]


@pytest.mark.parametrize(
    "cards",
    [
        {"BITPIX": 16, "NAXIS": 2, "NAXIS1": 2**40, "NAXIS2": 2**40},
        {"BITPIX": 16, "NAXIS": 2, "NAXIS1": -1, "NAXIS2": 10},
        {"BITPIX": 17, "NAXIS": 1, "NAXIS1": 10},
        {"BITPIX": 16, "NAXIS": 999, **{f"NAXIS{n}": 1 for n in range(1, 1000)}},
        {"BITPIX": 16, "NAXIS": 1, "NAXIS1": 10, "BZERO": "1E400"},
        {"BITPIX": 16, "NAXIS": 1, "NAXIS1": 10, "BSCALE": "'x'"},
    ],
    ids=str,
)
def test_a_header_that_means_no_possible_image_is_refused(cards: dict[str, object]) -> None:
    data = header(SIMPLE="T", **cards) + bytes(2880)

    try:
        opened = open_bytes("fits", data)
        found = rows(opened)
    except BadFile:
        return
    assert cards.get("BZERO") == "1E400" and not np.isfinite(found).any()


def test_a_compressed_image_that_promises_more_than_its_bytes_is_refused() -> None:
    data = encode(fits.PrimaryHDU(), fits.CompImageHDU(INTS[0], name="C"))
    for axis in (b"ZNAXIS1 ", b"ZNAXIS2 ", b"ZTILE1  "):
        at = data.index(axis)
        data = data[: at + 10] + b"10000000".rjust(20) + data[at + 30 :]

    with pytest.raises(BadFile):
        rows(open_bytes("fits", data), "C")


def test_what_follows_the_last_hdu_is_nothing_or_the_file_is_refused() -> None:
    data = encode(fits.PrimaryHDU(INTS))

    assert open_bytes("fits", data + bytes(2880)).members
    with pytest.raises(BadFile):
        open_bytes("fits", data + b"x" * 2880)
