"""An output is written on trial before the daemon writes it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from outputs import grown_output, make_output

from ingestd.repair import repair
from ingestd.sinks.hdf5_rehearse import rehearse


def test_a_sound_output_can_be_written_and_is_as_it_was(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3, 5, 9])
    before = path.read_bytes()

    assert rehearse(path) is None
    assert path.read_bytes() == before


def test_an_index_whose_next_block_was_lost_is_found(tmp_path: Path) -> None:
    # The index's first block holds four chunks, and says where the next, which was lost, would be.
    path = make_output(tmp_path / "out.h5", [16])
    before, after = grown_output(path)
    # Behind the index's first block nothing else changes but by what is new.
    index, end = after.index(b"EAIB"), len(before)
    path.write_bytes(after[:48] + before[48:index] + after[index:end] + bytes(len(after) - end))
    assert repair(path).opens is None
    with h5py.File(path) as file:
        assert np.array_equal(file["/data"][:, 0], range(16))

    problem = rehearse(path)

    assert problem is not None
    assert "checksum" in problem


def test_a_chunk_that_was_lost_with_the_end_of_the_file_is_found(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [12])
    before, after = grown_output(path)
    path.write_bytes(before[:48] + after[48 : len(before)])
    assert repair(path).opens is None

    problem = rehearse(path)

    assert problem is not None
    assert "/data: the chunk of row 12 lies beyond the file's end" in problem
