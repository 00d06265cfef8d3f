"""Hostile zips: refused by what their directory says, before anything is unpacked."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from contract.format_cases import (
    joined,
    npy,
    npy_header,
    npz,
    npz_deflated,
    open_bytes,
    zipped,
)

from ingestd.errors import BadFile
from ingestd.formats import npz as npz_format
from ingestd.formats import ziplimits

ONE = npy({"data": np.arange(6.0)})


def test_modest_zeros_are_taken_and_a_bomb_is_refused_before_memory_is() -> None:
    modest = npz_deflated({"zeros": np.zeros(1_000_000)})
    bomb = npz_deflated({"zeros": np.zeros(70 << 20, np.uint8)})
    assert joined(open_bytes("npz", modest), "zeros", 1 << 20).sum() == 0

    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="promise"):
            open_bytes("npz", bomb)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 1 << 20
    assert open_bytes("npz", bomb, ratio_max=1100).members["zeros"].shape == (70 << 20,)


def test_names_with_directories_are_only_names() -> None:
    opened = open_bytes("npz", zipped({"../../etc/a.npy": ONE, "run 1/b.npy": ONE}))

    assert list(opened.members) == ["../../etc/a", "run 1/b"]


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ({"inner.npz": b"PK"}, "inner.npz"),
        ({"readme.txt": b"hi"}, "readme.txt"),
        ({"dir/": b""}, "dir/"),
        ({}, "holds 0"),
        ({"a.npy": b""}, "a.npy"),
        ({"a.npy": ONE + b"more"}, "the zip holds 180"),
        ({"a.npy": ONE[:-1]}, "the zip holds 175"),
        ({"a.npy": npy_header("'|O'", "(1,)") + b"\x80\x04."}, "pickled"),
    ],
)
def test_a_zip_of_anything_but_whole_arrays_is_refused(
    entries: dict[str, bytes], found: str
) -> None:
    with pytest.raises(BadFile) as caught:
        open_bytes("npz", zipped(entries))

    assert found in caught.value.found


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_output_cannot_be_bounded_are_refused(method: int) -> None:
    with pytest.raises(BadFile, match="compressed by method"):
        open_bytes("npz", zipped({"a.npy": ONE}, method))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", ONE)
        archive.writestr("a.npy", ONE)

    with pytest.raises(BadFile, match="two arrays named"):
        open_bytes("npz", out.getvalue())


def _directory_entry(data: bytes, index: int) -> int:
    at = -1
    for _ in range(index + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


def test_an_encrypted_array_is_refused() -> None:
    data = bytearray(npz({"a": np.arange(3)}))
    data[_directory_entry(data, 0) + 8] |= 1

    with pytest.raises(BadFile, match="encrypted"):
        open_bytes("npz", bytes(data))


def test_entries_that_share_their_bytes_are_refused() -> None:
    data = bytearray(npz({"a": np.arange(300), "b": np.arange(3)}))
    struct.pack_into("<I", data, _directory_entry(data, 1) + 42, 0)

    with pytest.raises(BadFile, match="overlaps"):
        open_bytes("npz", bytes(data))


@pytest.mark.parametrize("encode", [npz, npz_deflated])
def test_a_changed_byte_of_the_data_is_found_by_the_checksum(encode) -> None:
    array = np.random.default_rng(0).integers(0, 9, 4000)
    data = bytearray(encode({"a": array}))
    data[1200] ^= 0x10
    opened = open_bytes("npz", bytes(data))

    with pytest.raises(BadFile, match=r"'a\.npy' cannot be read"):
        joined(opened, "a", 1000)


def test_a_directory_that_claims_gigabytes_is_refused_unread() -> None:
    data = bytearray(ziplimits.DIRECTORY_BYTES_MAX + 100) + zipped({})
    struct.pack_into("<I", data, len(data) - 10, ziplimits.DIRECTORY_BYTES_MAX + 50)

    with pytest.raises(BadFile, match="directory"):
        open_bytes("npz", bytes(data))


def test_too_many_arrays_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ziplimits, "MEMBERS_MAX", 2)

    assert len(open_bytes("npz", zipped({"a.npy": ONE, "b.npy": ONE})).members) == 2
    with pytest.raises(BadFile, match="holds 3"):
        open_bytes("npz", zipped({"a.npy": ONE, "b.npy": ONE, "c.npy": ONE}))


def test_fortran_order_that_would_be_unpacked_again_and_again_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(npz_format, "UNPACKINGS_MAX", 4)
    opened = open_bytes("npz", npz({"f": np.asfortranarray(np.ones((100, 2)))}))

    assert joined(opened, "f", 400).sum() == 200
    with pytest.raises(BadFile, match="Fortran"):
        joined(opened, "f", 100)


def test_an_archive_too_large_for_the_old_zip_fields_is_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        with archive.open(zipfile.ZipInfo("a.npy"), "w", force_zip64=True) as member:
            member.write(ONE)

    assert joined(open_bytes("npz", out.getvalue()), "a", 16).tolist() == list(range(6))
