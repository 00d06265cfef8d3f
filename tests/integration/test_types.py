"""Types and storage through the whole daemon: dropped, taken, verified, and read by others."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - lets h5py read what it compressed
import numpy as np
import pytest
from helpers import run
from station import names, once

CONFIG = """
sources:
  events:
    drop: drop/events
    output: events.h5
    order: name
    settle: renamed
    datasets:
      /when: {}
      /name: {dtype: S8}
      /hit: {compression: gzip, filters: [shuffle, fletcher32]}
      /raw: {}
      /frames: {chunks: [2, 8, 8], compression: zstd}
      /counts: {filters: [scaleoffset]}
  log:
    drop: drop/log
    output: log.h5
    settle: renamed
    format: csv
    options: {missing: ["", NA]}
    datasets:
      /log: {member: [time, T, valve], dtype: {time: f8, T: f4, valve: S8}}
"""
HIT = np.dtype([("at", "<M8[us]"), ("where", ">f4", (3,)), ("sub", [("ok", "?"), ("id", ">u2")])])


def arrays(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    hits = np.zeros(5, HIT)
    hits["at"] = random.integers(0, 1 << 60, 5).astype("M8[us]")
    hits["where"] = random.random((5, 3))
    hits["sub"]["id"] = random.integers(0, 1 << 16, 5)
    return {
        "when": random.integers(0, 1 << 60, 5).astype("M8[ns]"),
        "name": np.array(["Ä", "b", "", "longer", "鉄"]),
        "hit": hits,
        "raw": np.frombuffer(random.bytes(5 * 16), "V16"),
        "frames": random.integers(0, 9, (5, 12, 20)).astype("<u2"),
        "counts": random.integers(-9, 9, (5, 100)),
    }


def test_every_kind_of_value_is_taken_verified_and_read(tmp_path: Path) -> None:
    (tmp_path / "drop/events").mkdir(parents=True)
    (tmp_path / "drop/log").mkdir()
    for seed in range(3):
        np.savez(tmp_path / f"drop/events/{seed}.npz", **arrays(seed))
    other = arrays(3) | {"when": np.zeros(5, "M8[s]")}
    np.savez(tmp_path / "drop/events/3.npz", **other)
    (tmp_path / "drop/log/a.csv").write_text("valve,T,time\nopen,1.5,0.25\n,NA,1e9\n")

    once(tmp_path, CONFIG, code=(0, 1))

    assert names(tmp_path / "done/events") == ["0.npz", "1.npz", "2.npz"]
    reason = json.loads((tmp_path / "failed/events/3.npz.reason.json").read_text())
    assert "datetime64[ns]" in reason["expected"]
    assert "datetime64[s]" in reason["found"]
    expected = [arrays(seed) for seed in range(3)]
    with h5py.File(tmp_path / "events.h5", "r", swmr=True) as file:
        for member in ("raw", "frames", "counts"):
            found = file[member][:]
            assert found.tobytes() == b"".join(one[member].tobytes() for one in expected)
        when = file["when"][:].view(file["when"].attrs["units"])
        assert np.array_equal(when, np.concatenate([one["when"] for one in expected]))
        assert file["name"].asstr()[:5].tolist() == expected[0]["name"].tolist()
        hits = file["hit"][:]
        assert file["hit"].attrs["at.units"] == "datetime64[us]"
        assert np.array_equal(hits["at"].view("M8[us]")[:5], expected[0]["hit"]["at"])
        assert hits["where"].dtype == ">f4"
        assert np.array_equal(hits["sub"]["id"][5:10], expected[1]["hit"]["sub"]["id"])
    with h5py.File(tmp_path / "log.h5", "r", swmr=True) as file:
        rows = file["log"][:].tolist()
        assert rows[0] == (0.25, 1.5, b"open")
        assert (rows[1][0], rows[1][2]) == (1e9, b"")
        assert np.isnan(rows[1][1])
    run("verify", "events.h5", "-c", "x.yaml", cwd=tmp_path)
    run("verify", "log.h5", "-c", "x.yaml", cwd=tmp_path)


@pytest.mark.skipif(not shutil.which("h5dump"), reason="no h5dump")
def test_an_older_h5dump_reads_every_kind_of_value(tmp_path: Path) -> None:
    (tmp_path / "drop/events").mkdir(parents=True)
    np.savez(tmp_path / "drop/events/0.npz", **arrays(0))

    once(tmp_path, CONFIG)

    for dataset, text in {
        "/when": "H5T_STD_I64LE",
        "/name": "H5T_CSET_UTF8",
        "/hit": "H5T_IEEE_F32BE",
        "/raw": "H5T_OPAQUE",
        "/counts": "H5T_STD_I64LE",
    }.items():
        done = subprocess.run(
            ["h5dump", "-d", dataset, tmp_path / "events.h5"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert text in done.stdout


def test_a_sample_is_checked_against_what_the_output_holds(tmp_path: Path) -> None:
    (tmp_path / "drop/events").mkdir(parents=True)
    np.savez(tmp_path / "drop/events/0.npz", **arrays(0))
    once(tmp_path, CONFIG)
    np.savez(tmp_path / "same.npz", **arrays(1))
    np.savez(tmp_path / "other.npz", **arrays(1) | {"when": np.zeros(5, "M8[s]")})

    words = ("check", "-c", "x.yaml", "--source", "events", "--sample")
    run(*words, "same.npz", cwd=tmp_path)
    refused = run(*words, "other.npz", cwd=tmp_path, code=1)

    assert "datetime64[ns]" in refused.stderr
