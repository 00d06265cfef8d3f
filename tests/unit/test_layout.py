"""Paths and records of an output are the same for writers and readers, and stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from ingestd.layout import (
    RECORD,
    RECORD_STRUCT,
    captures_text,
    committed_rows,
    dataset_path,
    records_path,
)


@pytest.mark.parametrize("dataset", ["/data", "/entry/data", "/files", "/a/files/b"])
def test_records_stand_beside_their_dataset_and_lead_back_to_it(dataset: str) -> None:
    path = records_path(dataset)

    assert path == f"/ingestd{dataset}/files"
    assert dataset_path(path) == dataset


def test_the_record_in_existing_files_does_not_change() -> None:
    first = "first_row rows name digest mtime_ns committed_ns source file_id file_digest datasets"

    assert RECORD.names == (*first.split(), "captures")  # new ones come last
    assert RECORD.itemsize == 8 + 8 + 255 + 32 + 8 + 8 + 64 + 8 + 32 + 4 + 128
    assert RECORD_STRUCT.size == RECORD.itemsize


def test_captures_that_are_too_many_lose_the_last_whole() -> None:
    assert captures_text({}) == ""
    assert captures_text({"run": 7, "name": "é"}) == '{"run":7,"name":"é"}'
    assert captures_text({"run": 7, "name": "x" * 200}) == '{"run":7}'
    assert captures_text({"name": "x" * 200}) == ""


def test_rows_are_committed_up_to_the_end_of_the_last_record() -> None:
    record = np.zeros(1, RECORD)[0]
    record["first_row"], record["rows"] = 2**62, 5

    assert committed_rows(None) == 0
    assert committed_rows(record) == 2**62 + 5
