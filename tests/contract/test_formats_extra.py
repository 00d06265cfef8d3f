"""Formats of the extras: memory is bounded by the slab, threads do not meet, damage is refused."""

from __future__ import annotations

import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest
from contract.extra_cases import EXTRA_CASES, MISSING, fits, hdf5, mat, tiff, zarr
from contract.format_cases import Case, joined, open_bytes, open_file

from ingestd.errors import BadFile

SLAB_BYTES = 512 * 1024
FRAMES = np.random.default_rng(0).integers(0, 4000, (128, 256, 256)).astype(np.uint16)  # 16 MiB

# The encoder, the member, and the slabs held on top of the reader's own (zarr: a band of chunks is
# two slabs here, held as stored, unpacked and joined).
LARGE = {
    "tiff": (tiff(), "data", 2),
    "tiff deflated": (tiff(compression="zlib"), "data", 2),
    "fits": (fits(), "PRIMARY", 3),
    "zarr": (zarr(3, chunks=(8, 64, 256)), "f", 9),
    "hdf5": (hdf5(chunks=(32, 64, 256), compression="gzip"), "/f", 1),
    "mat": (mat(), "f", 1),
}


def skip_if_missing(format_name: str) -> None:
    if MISSING[format_name]:
        pytest.skip(MISSING[format_name])


@pytest.mark.parametrize("name", LARGE)
def test_memory_is_bounded_by_the_slab(name: str, tmp_path: Path) -> None:
    skip_if_missing(name.split()[0])
    encode, member, slabs = LARGE[name]
    path = tmp_path / "large"
    path.write_bytes(encode({member: FRAMES}))

    with path.open("rb", buffering=0) as file:
        opened = open_file(name.split()[0], file)
        iterator = opened.slabs(member, SLAB_BYTES)
        tracemalloc.start()
        try:
            rows = sum(len(slab) for slab in iterator)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert rows == len(FRAMES)
    assert peak_bytes < (slabs + 1) * SLAB_BYTES + (256 << 10)


def test_memory_of_a_parquet_file_is_bounded_by_its_pages_not_by_its_row_groups(
    tmp_path: Path,
) -> None:
    skip_if_missing("parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "large"
    values = np.random.default_rng(0).standard_normal(4_000_000)  # 32 MB
    pq.write_table(pa.table({"x": values}), path, row_group_size=len(values), use_dictionary=False)

    held_bytes = []
    with path.open("rb", buffering=0) as file:
        before = pa.total_allocated_bytes()
        for _ in open_file("parquet", file).slabs("x", SLAB_BYTES):
            held_bytes.append(pa.total_allocated_bytes() - before)

    assert max(held_bytes) < 8 << 20


def test_files_of_all_formats_are_read_side_by_side() -> None:
    for name in MISSING:
        skip_if_missing(name)
    files = [(case, case.bytes()) for case in (Case(**case) for case in EXTRA_CASES)]
    before = list(warnings.filters)

    def read(file: tuple[Case, bytes]) -> None:
        case, data = file
        opened = open_bytes(case.format, data, **case.options)
        for name, array in case.arrays.items():
            assert joined(opened, name, 200).tobytes() == array.tobytes(), case.name

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, files * 3))

    assert warnings.filters == before


@pytest.mark.parametrize("name", MISSING)
def test_files_with_bytes_changed_are_refused_or_read(name: str) -> None:
    skip_if_missing(name)
    random = Random(name)
    cases = [Case(**case) for case in EXTRA_CASES if case["format"] == name]
    files = [case.bytes() for case in cases]
    lengths = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x40", b"\0\0\0\0\0\1\0\0"]

    for _ in range(300):
        data = bytearray(random.choice(files))
        for _ in range(random.randint(1, 4)):
            at = random.choice([random.randrange(len(data)), random.randrange(min(300, len(data)))])
            at = random.choice([at, len(data) - 1 - at])  # headers stand at both ends
            new = random.choice([bytes([random.randrange(256)]), *lengths])
            data[at : at + len(new)] = new
        try:
            opened = open_bytes(name, bytes(data))
            for member in opened.members:
                for slab in opened.slabs(member, 4096):
                    assert slab.nbytes <= 4096 or slab.ndim == 0 or len(slab) == 1
        except BadFile as error:
            assert error.expected and error.found and error.remedy
