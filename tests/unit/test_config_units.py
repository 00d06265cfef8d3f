"""Sizes and times: what is written is read back, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.units import format_bytes, format_seconds, parse_bytes, parse_seconds


@given(st.integers(0, 2**63 - 1))
def test_every_size_is_read_back_exactly(size: int) -> None:
    written = format_bytes(size)

    assert parse_bytes(written) == size


@given(st.integers(1, 2**20), st.sampled_from([10, 20, 30, 40]))
def test_whole_binary_units_are_written_with_a_unit(count: int, power: int) -> None:
    size = count * 2**power

    written = format_bytes(size)

    assert written.endswith("iB")
    assert parse_bytes(written) == size


@given(st.one_of(st.integers(0, 10**9).map(float), st.floats(1e-6, 1e9)))
def test_every_time_is_read_back_exactly(seconds: float) -> None:
    written = format_seconds(seconds)

    assert parse_seconds(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("256MiB", 256 * 2**20),
        ("4GB", 4 * 10**9),
        ("4 gb", 4 * 10**9),
        ("1.5KiB", 1536),
        ("0", 0),
        (4096, 4096),
        ("7B", 7),
        ("2kB", 2000),
    ],
)
def test_sizes_read_as_people_write_them(written: object, size: int) -> None:
    assert parse_bytes(written) == size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1s", 1), ("250ms", 0.25), ("1d", 86400), ("2min", 120), (5, 5), (0.5, 0.5), ("1.5h", 5400)],
)
def test_times_read_as_people_write_them(written: object, seconds: float) -> None:
    assert parse_seconds(written) == seconds


NO_SIZES = ["", "MiB", "-1", -1, "1.5", "1XB", "1e3", True, None, [1], float("nan"), float("inf")]
HOSTILE_SIZES = ["9" * 5000, "9" * 19 + "TB", "\N{ARABIC-INDIC DIGIT ONE}"]


@pytest.mark.parametrize("wrong", [*NO_SIZES, *HOSTILE_SIZES])
def test_what_is_no_size_is_refused_with_a_remedy(wrong: object) -> None:
    with pytest.raises(ValueError, match="write a size like 256MiB"):
        parse_bytes(wrong)


@pytest.mark.parametrize(
    "wrong", ["", "s", "-1s", -0.5, "1m", "1S", "1:30", True, None, "99999999d", float("inf")]
)
def test_what_is_no_time_is_refused_with_a_remedy(wrong: object) -> None:
    with pytest.raises(ValueError, match="write a time like 1s"):
        parse_seconds(wrong)
