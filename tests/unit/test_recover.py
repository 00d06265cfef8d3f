"""An output that a dead writer left behind is tried before it is written again."""

from __future__ import annotations

from pathlib import Path

import pytest
from outputs import grown_output, make_output

from ingestd.errors import BrokenInvariant
from ingestd.ledger import Ledger
from ingestd.pipeline.recover import recover
from ingestd.sinks.hdf5_recover import Held


def test_what_is_refused_once_is_refused_until_it_is_moved_away(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [12])
    before, after = grown_output(path)
    path.write_bytes(before[:48] + after[48 : len(before)])

    for start in ("first", "second"):
        ledger = Ledger(tmp_path / f"{start}.sqlite")
        with pytest.raises(BrokenInvariant, match="beyond the file's end"):
            recover(path, ledger, tmp_path / "state")
        ledger.close()

    path.rename(tmp_path / "refused.h5")
    recover(path, Ledger(tmp_path / "third.sqlite"), tmp_path / "state").close()
    assert not list(tmp_path.glob(".*.untried"))


def test_what_a_dead_writer_left_sound_is_tried_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_output(tmp_path / "out.h5", [12])
    before, _ = grown_output(path)
    path.write_bytes(before)
    ledger = Ledger(tmp_path / "ledger.sqlite")

    for _ in range(2):
        recover(path, ledger, tmp_path / "state").close()

    assert caplog.text.count("repairing it") == 1
    assert not list(tmp_path.glob(".*.untried"))


def test_what_was_never_an_output_is_not_blamed_on_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not HDF5")
    ledger = Ledger(tmp_path / "ledger.sqlite")

    with pytest.raises(BrokenInvariant, match=r"not an HDF5 file.* name another output") as error:
        recover(path, ledger, tmp_path / "state")

    assert "crash" not in str(error.value)
    ledger.close()


def test_of_many_pending_files_it_is_known_which_have_records(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [12, 5, 7])
    with Held(path) as held:
        (dataset,) = held.datasets
        ids = [int(i) for records in held.all_records(dataset) for i in records["file_id"]]

        found = [held.recorded(dataset, file_id) for file_id in (ids[0], ids[1], ids[2] + 1)]

    assert found == [set(ids), set(ids[1:]), set()]
