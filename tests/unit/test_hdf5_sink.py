"""What becomes of an output's file as it is opened and closed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from outputs import make_output

from ingestd.errors import SyncFailed
from ingestd.model import RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5 import Hdf5Sink
from ingestd.writers import refuse_if_written


def test_an_output_that_was_moved_away_is_closed_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    sink = Hdf5Sink(path)
    sink.ensure({"/data": DatasetSpec(RowType(np.dtype("<i4"), ()))}, {})
    path.rename(tmp_path / "moved.h5")

    sink.close()

    assert not path.exists()


def test_an_output_that_cannot_be_synced_is_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_output(tmp_path / "out.h5", [3])

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(SyncFailed) as failed:
            Hdf5Sink(path)

    assert failed.value
    with path.open("rb") as file:
        refuse_if_written(file.fileno(), path)
    Hdf5Sink(path).close()
