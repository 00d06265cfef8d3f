"""The formats of the extras: memory is bounded by the slab, not by the file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from contract.extra_cases import fits, loaded, tiff, zarr
from contract.format_cases import open_file

SLAB_BYTES = 512 * 1024
FRAMES = np.random.default_rng(0).integers(0, 4000, (128, 256, 256)).astype(np.uint16)  # 16 MiB

# The libraries, the encoder, the member, and the slabs held on top of the reader's own
# (zarr: a band of chunks is two slabs here, held as stored, unpacked and joined).
FORMATS = {
    "tiff": (("tifffile", "imagecodecs"), tiff(), "data", 2),
    "tiff deflated": (("tifffile", "imagecodecs"), tiff(compression="zlib"), "data", 2),
    "fits": (("astropy.io.fits",), fits(), "PRIMARY", 3),
    "zarr": (("zarr",), zarr(3, chunks=(8, 64, 256)), "f", 9),
}


@pytest.mark.parametrize("name", FORMATS)
def test_memory_is_bounded_by_the_slab(name: str, tmp_path: Path) -> None:
    libraries, encode, member, slabs = FORMATS[name]
    if not loaded(*libraries):
        pytest.skip(f"pip install 'ingestd[{name.split()[0]}]'")
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
    if not loaded("pyarrow.parquet"):
        pytest.skip("pip install 'ingestd[parquet]'")
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
