"""What a file's members become, in datasets that are made for such files."""

from __future__ import annotations

import numpy as np
import pytest

from ingestd.config import Dataset
from ingestd.formats import ArrayInfo
from ingestd.model import RowType
from ingestd.pipeline.plan import dataset_spec, file_rows


@pytest.mark.parametrize(
    ("shape", "stack", "rows"),
    [((7, 4), False, 7), ((7, 4), True, 1), ((), True, 1), ((None, 4), False, None)],
)
def test_a_file_has_as_many_rows_as_are_known_before_it_is_read(shape, stack, rows) -> None:
    info = ArrayInfo(np.dtype("u2"), shape)

    assert file_rows(Dataset(stack=stack), info) == rows


def test_a_dataset_is_made_for_files_of_so_many_rows() -> None:
    rows = RowType(np.dtype("u2"), (4,))

    assert dataset_spec(Dataset(), rows, 7).file_rows == 7
    assert dataset_spec(Dataset(), rows).file_rows is None
