"""Chunks are of a size that reads well, and end where rows and files end if they can."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.chunks import ChunkPlan, plan_chunks
from ingestd.sinks.hdf5_plain import consecutive

KIB, MIB = 1 << 10, 1 << 20
FRAME = 2 * MIB

sizes = st.integers(1, 16 * MIB)
counts = st.integers(1, 10**7)


@pytest.mark.parametrize(
    ("row_bytes", "file_rows", "rows"),
    [
        (64, None, 16384),
        (64, 1 << 20, 16384),
        (512, 4096, 2048),
        # A file of 1000 rows: its divisors and multiples between 0.5 and 2 MiB, nearest to 1 MiB.
        (1000, 1000, 1000),
        (1000, 5000, 1000),
        (64, 1000, 16000),
        (8, 1, 131072),
        # Nothing fits: a prime, much larger than a chunk.
        (64, 1_000_003, 16384),
        (1, 15_485_863, MIB),
        (FRAME, 100, 1),
        (FRAME, None, 1),
        (4 * FRAME, 7, 1),
        (700 * KIB, 10, 2),
        (1, 0, MIB),
    ],
)
def test_chunks_without_compression_are_about_a_mebibyte(row_bytes, file_rows, rows) -> None:
    assert plan_chunks(row_bytes, file_rows).rows == rows


@pytest.mark.parametrize(
    ("row_bytes", "file_rows", "rows"),
    [
        # A file from 4 KiB to 1 MiB is a chunk.
        (64, 64, 64),
        (64, 1000, 1000),
        (MIB, 1, 1),
        # Larger ones are cut evenly, or are one chunk still.
        (64, 20_000, 20_000),
        (1000, 5000, 1000),
        (64, 1_000_003, 16384),
        (FRAME, 100, 1),
        # Of smaller ones, as many as reach 16 KiB.
        (64, 63, 315),
        (8, 1, 2048),
        # Not known: small, so that little is written twice.
        (64, None, 1024),
        (FRAME, None, 1),
    ],
)
def test_chunks_with_compression_end_where_files_end(row_bytes, file_rows, rows) -> None:
    assert plan_chunks(row_bytes, file_rows, compressed=True).rows == rows


@settings(deadline=None)
@given(sizes, st.none() | counts, st.booleans())
def test_a_chunk_is_whole_rows_of_at_most_2_mebibytes_or_one_row(
    row_bytes, file_rows, compressed
) -> None:
    plan = plan_chunks(row_bytes, file_rows, compressed=compressed)

    assert plan.rows >= 1
    assert plan.nbytes <= 2 * MIB or plan.rows == 1


@settings(deadline=None)
@given(sizes, counts)
def test_small_files_are_never_torn_by_compressed_chunks(row_bytes, file_rows) -> None:
    plan = plan_chunks(row_bytes, file_rows, compressed=True)

    if row_bytes * file_rows <= MIB:
        assert plan.rows % file_rows == 0


@pytest.mark.parametrize(
    ("row_shape", "value_bytes", "chunk"),
    [
        ((1024, 1024), 2, (1, 512, 1024)),
        ((1000, 1000), 4, (1, 250, 1000)),
        ((4, 2048, 2048), 2, (1, 1, 256, 2048)),
        ((1 << 21,), 8, (1, 1 << 17)),
        # Nothing divides a prime; nor is a value cut.
        ((1447, 1447), 2, ()),
        ((2,), 3 * MIB, ()),
        # One that is not large, or that somebody has decided on, stays whole.
        ((512, 1024), 2, ()),
    ],
)
def test_large_rows_are_several_chunks_of_a_mebibyte(row_shape, value_bytes, chunk) -> None:
    row_bytes = math.prod(row_shape) * value_bytes

    assert plan_chunks(row_bytes, 1, row_shape=row_shape).shape == chunk
    assert plan_chunks(row_bytes, 1, row_shape=row_shape, compressed=True).shape == ()
    assert plan_chunks(row_bytes, 1, row_shape=row_shape, asked=1).shape == ()


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=4), st.sampled_from([1, 2, 4, 8, 16]))
def test_parts_of_a_row_make_it_up_byte_by_byte(row_shape, value_bytes) -> None:
    plan = plan_chunks(math.prod(row_shape) * value_bytes, None, row_shape=tuple(row_shape))

    if plan.shape:
        assert MIB // 8 <= plan.nbytes <= MIB
        assert consecutive(plan.shape, tuple(row_shape))


@given(sizes, counts, st.booleans(), counts)
def test_what_was_asked_for_is_what_one_gets(row_bytes, file_rows, compressed, asked) -> None:
    plan = plan_chunks(row_bytes, file_rows, compressed=compressed, asked=asked)

    assert plan == ChunkPlan(asked, row_bytes, file_rows)


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (ChunkPlan(16, 65536, 64), "chunks of 16 rows = 1 MiB; one file fills 4"),
        (ChunkPlan(1, 4 * MIB, 1), "chunks of 1 row = 4 MiB; one file fills 1"),
        (ChunkPlan(16000, 64, 1000), "chunks of 16000 rows = 1000 KiB; one holds 16 files"),
        (ChunkPlan(10, 8, 25), "chunks of 10 rows = 80 bytes; one file fills 2.5"),
        (ChunkPlan(16384, 64), "chunks of 16384 rows = 1 MiB"),
        (
            ChunkPlan(1, FRAME, 1, (1, 512, 1024), 2),
            "chunks of 1 x 512 x 1024 = 1 MiB; one row fills 2",
        ),
        (ChunkPlan(16, FRAME, 1, (16, 256, 256), 2), "chunks of 16 x 256 x 256 = 2 MiB"),
    ],
)
def test_a_plan_says_what_it_is(plan, text) -> None:
    assert str(plan) == text
