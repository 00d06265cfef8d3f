"""Rows that stand where their files' names say, and outputs that names choose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ingestd import layout, tail
from ingestd.cli.status import collect
from ingestd.config import Config
from ingestd.ledger import Ledger
from ingestd.pipeline import decode as decode_module
from ingestd.pipeline import outputs as outputs_module
from ingestd.pipeline.recover import recover
from tests.flows import make_config, rows_of, take_all


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is final at once."""
    monkeypatch.setattr(decode_module, "GRACE_SECONDS", -1.0)


PLACE = {"place": "{seq}"}


def placed(root: Path, more: dict[str, Any] | None = None, **dataset: Any) -> Config:
    settings = {"place": "{seq}", "fill": -1, **dataset}
    return make_config(root, more=more, match="f{seq:d}.npy", datasets={"/data": settings})


def drop(root: Path, seq: int, *rows: int, name: str = "f{}.npy") -> None:
    np.save(root / "drop" / name.format(seq), np.array(rows, dtype="i4"))


def records(output: Path, dataset: str = "/data") -> list[tuple[int, int, dict[str, Any]]]:
    with h5py.File(output) as file:
        return [
            (int(r["first_row"]), int(r["rows"]), json.loads(r["captures"]))
            for r in file[layout.records_path(dataset)]
        ]


@pytest.mark.parametrize("compression", ["none", "gzip", "bitshuffle"])
def test_files_may_come_out_of_order_and_late(tmp_path, compression: str) -> None:
    config = placed(tmp_path, compression=compression)
    drop(tmp_path, 5, 50, 51)
    take_all(config)
    drop(tmp_path, 0, 1, 2, 3)
    drop(tmp_path, 9, 90)

    take_all(config)

    assert rows_of(tmp_path / "out.h5").tolist() == [1, 2, 3, -1, -1, 50, 51, -1, -1, 90]
    assert sorted(records(tmp_path / "out.h5")) == [
        (0, 3, {"seq": 0}),
        (5, 2, {"seq": 5}),
        (9, 1, {"seq": 9}),
    ]
    (status,) = collect(config)
    assert status.missing_rows == {f"{tmp_path}/out.h5:/data": "3-4, 7-8"}


def test_the_same_rows_at_the_same_place_are_passed_over(tmp_path) -> None:
    config = placed(tmp_path)
    drop(tmp_path, 2, 7, 8)
    take_all(config)
    drop(tmp_path, 2, 7, 8, name="f00{}.npy")
    drop(tmp_path, 3, 8, name="f0{}.npy")  # a part of them

    done = take_all(config)

    assert (done.files, done.skipped, done.quarantined) == (0, 2, 0)
    assert len(records(tmp_path / "out.h5")) == 1


@pytest.mark.parametrize("rows", [(7, 9), (1, 2, 3, 4), (8,)])
def test_other_rows_at_a_place_that_is_taken_are_quarantined(tmp_path, rows) -> None:
    config = placed(tmp_path)
    drop(tmp_path, 2, 7, 8)
    drop(tmp_path, 6, 1)
    take_all(config)
    drop(tmp_path, 2, *rows, name="f00{}.npy")

    done = take_all(config)

    assert done.quarantined == 1
    assert rows_of(tmp_path / "out.h5").tolist() == [-1, -1, 7, 8, -1, -1, 1]
    reason = json.loads((tmp_path / "failed/f002.npy.reason.json").read_text())
    assert "a row is not written twice" in reason["do"]


def test_the_same_content_at_another_place_is_no_duplicate(tmp_path) -> None:
    config = placed(tmp_path)
    for seq in range(3):
        drop(tmp_path, seq, 0)

    done = take_all(config)

    assert done.files == 3
    assert rows_of(tmp_path / "out.h5").tolist() == [0, 0, 0]


def test_a_file_that_turns_bad_after_some_of_its_rows_leaves_none(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decode_module, "HOLD_BYTES_MAX", 1)
    monkeypatch.setattr(decode_module, "SLAB_BYTES_MAX", 8)
    config = make_config(
        tmp_path,
        match="f{seq:d}.csv",
        datasets={"/data": {"place": "{seq}", "fill": -1, "dtype": "f8", "member": "data"}},
    )
    (tmp_path / "drop/f9.csv").write_text("9\n")
    take_all(config)
    (tmp_path / "drop/f2.csv").write_text("1\n2\nx\n")
    (tmp_path / "drop/f8.csv").write_text("1\n2\nx\n")

    done = take_all(config)

    assert done.quarantined == 2
    assert rows_of(tmp_path / "out.h5").ravel().tolist() == [-1] * 9 + [9]


def test_a_number_that_counts_no_rows_is_refused(tmp_path) -> None:
    config = placed(tmp_path)
    drop(tmp_path, 20261126123456, 1)

    done = take_all(config)

    assert done.quarantined == 1


@pytest.mark.parametrize("chunks", [{"chunk_rows": 1}, {"chunks": [1, 1], "stack": True}])
def test_a_place_of_which_hdf5_would_lose_count_is_refused(tmp_path, chunks) -> None:
    config = placed(tmp_path, **chunks)
    drop(tmp_path, 0, 1, 2)
    take_all(config)
    drop(tmp_path, 2**28 - 1, 3, 4)
    drop(tmp_path, 2**32, 5, 6)

    done = take_all(config)

    assert (done.files, done.quarantined) == ((1, 1) if "chunk_rows" in chunks else (0, 2))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_dataset_is_appended_to_or_placed_as_it_was_begun(tmp_path, compression) -> None:
    appended, set_places = ({"/data": {"compression": compression, **p}} for p in ({}, PLACE))
    for first, then in ((appended, set_places), (set_places, appended)):
        output = str(tmp_path / f"{first is appended}.h5")
        for datasets, seq in ((first, 1), (then, 9)):
            config = make_config(tmp_path, match="f{seq:d}.npy", output=output, datasets=datasets)
            np.save(tmp_path / f"drop/f{seq}.npy", np.array([seq, first is appended]))
            done = take_all(config)
            assert done.quarantined == (datasets is then)


def test_no_rows_far_out_are_not_missed_at_the_next_start(tmp_path) -> None:
    config = placed(tmp_path)
    drop(tmp_path, 0, 1, 2)
    drop(tmp_path, 100)
    take_all(config)
    ledger = Ledger(tmp_path / "state/ledger.sqlite")

    recover(tmp_path / "out.h5", ledger, tmp_path / "state").close()
    ledger.close()

    assert rows_of(tmp_path / "out.h5").tolist() == [1, 2]
    assert records(tmp_path / "out.h5")[1] == (0, 0, {"seq": 100})


def test_recovery_blanks_what_was_placed_and_not_committed(tmp_path) -> None:
    config = placed(tmp_path, chunk_rows=4)
    drop(tmp_path, 0, 1, 2)
    drop(tmp_path, 100, 3)
    take_all(config)
    ledger = Ledger(tmp_path / "state/ledger.sqlite")
    sink = recover(tmp_path / "out.h5", ledger, tmp_path / "state")
    sink.write("/data", 50, np.array([7, 7, 7], "i4"))
    sink.write("/data", 200, np.array([8], "i4"))
    sink.close()

    recover(tmp_path / "out.h5", ledger, tmp_path / "state").close()
    ledger.close()

    rows = rows_of(tmp_path / "out.h5")
    assert len(rows) == 101
    assert np.flatnonzero(rows != -1).tolist() == [0, 1, 100]


def test_a_lost_ledger_is_rebuilt_with_places_and_captures(tmp_path) -> None:
    config = placed(tmp_path)
    drop(tmp_path, 4, 1, 2)
    drop(tmp_path, 0, 3)
    take_all(config)
    for file in (tmp_path / "state").iterdir():
        file.unlink()
    ledger = Ledger(tmp_path / "state/ledger.sqlite")

    recover(tmp_path / "out.h5", ledger, tmp_path / "state").close()

    assert next(ledger.placed(f"{tmp_path}/out.h5", "/data").missing(0, 6)).start == 1
    captures = ledger._db.execute("SELECT captures FROM files ORDER BY captures").fetchall()
    assert captures == [('{"seq":0}',), ('{"seq":4}',)]
    ledger.close()


def by_run(root: Path, **source: Any) -> Config:
    return make_config(
        root,
        match="r{run:d}_{name}_{seq:d}.npy",
        order="{seq}",
        output=str(root / "data/run{run:04d}.h5"),
        datasets={"/sensors/{name}": {}},
        attrs={"/sensors": {"NX_class": "NXcollection"}},
        **source,
    )


def test_a_new_value_makes_a_new_output_or_dataset(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(outputs_module, "OPEN_MAX", 1)
    config = by_run(tmp_path)
    for seq in range(12):
        name = f"r{seq % 3}_{'ab'[seq % 2]}_{seq}.npy"
        np.save(tmp_path / "drop" / name, np.array([seq]))
    np.save(tmp_path / "drop/r0_.h_1.npy", np.array([1]))

    done = take_all(config)

    assert (done.files, done.quarantined) == (12, 1)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        f"run000{run}.h5" for run in range(3)
    ]
    for run in range(3):
        path = tmp_path / f"data/run000{run}.h5"
        for number, name in enumerate("ab"):
            expected = [s for s in range(12) if s % 3 == run and s % 2 == number]
            assert rows_of(path, f"/sensors/{name}").tolist() == expected
            assert all(r[2]["run"] == run for r in records(path, f"/sensors/{name}"))
        assert tail.verify(path).ok


def test_datasets_that_a_name_makes_one_lose_no_rows(tmp_path) -> None:
    datasets = {"/d{a}": {"member": "x"}, "/d{b}": {"member": "y"}}
    config = make_config(tmp_path, match="{a}_{b}.npz", datasets=datasets)
    for name in ("1_1.npz", "1_2.npz"):
        np.savez(tmp_path / "drop" / name, x=np.array([1]), y=np.array([2]))

    done = take_all(config)

    assert (done.files, done.quarantined) == (1, 1)


def test_the_same_content_in_another_run_is_no_duplicate(tmp_path) -> None:
    config = by_run(tmp_path)
    for run in range(2):
        np.save(tmp_path / f"drop/r{run}_a_{run}.npy", np.array([7]))
    np.save(tmp_path / "drop/r0_a_9.npy", np.array([7]))

    done = take_all(config)

    assert (done.files, done.skipped) == (2, 1)


def test_a_single_value_becomes_one_row_by_stacking(tmp_path) -> None:
    config = placed(tmp_path, stack=True)
    drop(tmp_path, 1, 4, 5)

    take_all(config)

    assert rows_of(tmp_path / "out.h5").tolist() == [[-1, -1], [4, 5]]
