"""Memory stays bounded: files and backlogs far larger than what may be resident."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.memory import CSV_BYTES, FILES, NPY_BYTES, measure

PEAK_MIB_MAX = 250
SMALL_PEAK_MIB_MAX = 160


@pytest.mark.parametrize(
    ("what", "scale"),
    [
        ("npy", (320 << 20) / NPY_BYTES),
        ("csv", (96 << 20) / CSV_BYTES),
        ("backlog", 3000 / FILES),
    ],
)
def test_a_daemon_with_little_memory_takes_what_is_larger(
    tmp_path: Path, what: str, scale: float
) -> None:
    memory = "16MiB"

    peak = measure(tmp_path, what, scale, memory)

    assert peak.peak_mib <= SMALL_PEAK_MIB_MAX


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", ["npy", "csv", "backlog"])
def test_a_daemon_with_64_mib_takes_4_gib_of_npy_1_gib_of_csv_and_100000_files(
    tmp_path: Path, what: str
) -> None:
    memory = "64MiB"

    peak = measure(tmp_path, what, 1.0, memory)

    assert peak.peak_mib <= PEAK_MIB_MAX
