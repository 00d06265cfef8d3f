from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd import extension, superblock
from ingestd.superblock import Superblock, lookup3, mended, parse, positions, version


def made(path: Path, offset_size: int = 8, **options: object) -> bytes:
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plist.set_sizes(offset_size, offset_size)
    if "userblock_size" in options:
        plist.set_userblock(options["userblock_size"])
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(
        options.get("low", h5py.h5f.LIBVER_V110), options.get("high", h5py.h5f.LIBVER_V114)
    )
    name = bytes(path)
    with h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fcpl=plist, fapl=access)) as file:
        file["x"] = np.arange(10)
    return path.read_bytes()


def with_space(path: Path, **options: object) -> tuple[bytes, Superblock]:
    with h5py.File(path, "w", libver=("v110", "v114"), **options) as file:
        file["free"] = np.zeros(5000)
        file["x"] = np.arange(10)
        del file["free"]
    image = path.read_bytes()
    return image, parse(image[:48], 0)


def test_lookup3_gives_the_sums_that_its_author_published():
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551


@pytest.mark.parametrize("offset_size", [2, 4, 8])
def test_a_superblock_of_hdf5_is_read_and_written_back_byte_for_byte(tmp_path, offset_size):
    image = made(tmp_path / "a.h5", offset_size)

    found = parse(image[: superblock.SUPERBLOCK_BYTES_MAX], 0)

    assert (found.version, found.offset_size, found.flags) == (3, offset_size, 0)
    assert found.checksum_ok and found.end == found.eoa == len(image)
    assert image[found.root : found.root + 4] == b"OHDR"
    assert found.encoded() == image[: 16 + 4 * offset_size]
    assert mended(found, len(image)) is None


def test_behind_a_user_block_the_end_of_allocation_counts_from_the_file_s_first_byte(tmp_path):
    image = made(tmp_path / "a.h5", userblock_size=1024)

    found = parse(image[1024:][:48], 1024)

    assert 1024 in list(positions(len(image)))
    assert found.base == 1024 and found.eoa == found.end == len(image)


def test_a_user_block_put_before_a_file_later_moves_its_end(tmp_path):
    image = bytes(512) + made(tmp_path / "a.h5")

    found = parse(image[512:][:48], 512)

    assert found.base == 0 and found.end == len(image)
    assert mended(found, len(image)) is None
    longer = parse(mended(found, len(image) + 100) or b"", 512)
    assert longer.end == len(image) + 100 and longer.base == 0


def test_versions_0_and_1_have_no_flags_and_are_not_parsed(tmp_path):
    image = made(tmp_path / "a.h5", low=h5py.h5f.LIBVER_EARLIEST)

    assert version(image) == 0
    with pytest.raises(ValueError, match="version 0 has no consistency flags"):
        parse(image[:48], 0)


def test_flags_are_cleared_and_the_end_goes_behind_all_bytes_there_are(tmp_path):
    found = parse(made(tmp_path / "a.h5")[:48], 0)
    crashed = parse(
        superblock.replace(found, flags=superblock.WRITING | superblock.SWMR, eoa=700).encoded(), 0
    )

    new = parse(mended(crashed, 5000) or b"", 0)

    assert (new.flags, new.eoa, new.checksum_ok) == (0, 5000, True)
    assert (new.base, new.extension, new.root) == (found.base, found.extension, found.root)


def test_an_end_behind_the_file_s_size_is_kept(tmp_path):
    found = superblock.replace(parse(made(tmp_path / "a.h5")[:48], 0), flags=5, eoa=9163)

    new = parse(mended(found, 9000) or b"", 0)

    assert new.eoa == 9163


def test_the_end_is_rounded_up_to_whole_pages(tmp_path):
    found = superblock.replace(parse(made(tmp_path / "a.h5")[:48], 0), flags=5, eoa=700)

    assert parse(mended(found, 8193, page_bytes=4096) or b"", 0).eoa == 12288


def test_an_end_under_a_wrong_checksum_is_not_believed(tmp_path):
    image = bytearray(made(tmp_path / "a.h5")[:48])
    image[34] = 0x7F

    found = parse(bytes(image), 0)

    assert not found.checksum_ok
    assert parse(mended(found, 2128) or b"", 0).eoa == 2128


@given(st.binary(max_size=64), st.integers(0, 4))
def test_no_bytes_make_parse_fail_otherwise_than_with_a_value_error(tail, version_byte):
    data = superblock.SIGNATURE + bytes([version_byte]) + tail

    try:
        found = parse(data, 0)
    except ValueError:
        return

    assert found.encoded()[: 12 + 4 * found.offset_size] == data[: 12 + 4 * found.offset_size]


def test_saved_free_space_is_forgotten_and_the_rest_of_its_note_kept(tmp_path):
    image, found = with_space(tmp_path / "a.h5", fs_strategy="fsm", fs_persist=True)
    at = found.extension or 0

    space = extension.file_space(extension.header(image[at:]), found)
    assert space is not None and space.forgotten is not None
    again = extension.file_space(extension.header(space.forgotten), found)

    assert space.page_bytes == 1
    assert again is not None and again.forgotten is None


def test_the_size_of_a_page_is_found(tmp_path):
    image, found = with_space(tmp_path / "a.h5", fs_strategy="page", fs_page_size=8192)

    space = extension.file_space(extension.header(image[found.extension or 0 :]), found)

    assert space is not None and space.page_bytes == 8192 and space.forgotten is None


def test_a_torn_extension_is_told_from_a_whole_one(tmp_path):
    image, found = with_space(tmp_path / "a.h5", fs_strategy="fsm", fs_persist=True)
    torn = bytearray(image[found.extension or 0 :])
    torn[40] ^= 1

    for data in (bytes(torn), b"OCHK" + bytes(100), b"", bytes(20)):
        with pytest.raises(extension.Broken):
            extension.header(data)


@given(st.binary(max_size=200))
def test_no_bytes_make_an_extension_fail_otherwise_than_with_a_value_error(tail):
    sizes = Superblock(3, 0, 8, 8, 5, 0, 48, 100, 200, True)
    body = b"OHDR\x02\x00" + bytes([min(len(tail), 255)]) + tail
    data = body + lookup3(body).to_bytes(4, "little")

    try:
        block = extension.header(data)
        extension.continuations(block, sizes)
        space = extension.file_space(block, sizes)
    except ValueError:
        return

    assert space is None or space.forgotten is None or len(space.forgotten) == len(data)
