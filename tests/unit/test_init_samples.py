"""``init --from`` writes a config that takes its own sample, whatever that is."""

from __future__ import annotations

import importlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from helpers import run


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["/entry/data/frames"] = np.zeros((3, 4, 5))
        file["/entry/title"] = "a title"
        file["/entry/energy"] = 12.5


def parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="pip install 'ingestd[parquet]'")
    table = importlib.import_module("pyarrow").table({"x": [1.0, 2.0], "name": ["a", "bb"]})
    pyarrow.write_table(table, path)


def picture(path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pip install 'ingestd[image]'")
    image.fromarray(np.zeros((4, 5), "u1")).save(path)


SAMPLES = {
    "units.csv": "time,temp,state\ns,K,\n0,293.1,open\n1,,closed\n",
    "text.csv": "name,v\nbob,1\n",
    "dates.csv": "at,v\n2026-11-26T12:00,1\n",
    "decimal.csv": "a;b\n1,5;2\n",
    "blank.csv": "a,b\n1,\n,2\n",
    "numbers.csv": "a,b\n1,2\n",
    "bare.txt": "1 2\n3 4\n",
    "frame3_0012.npy": lambda path: np.save(path, np.zeros((32, 48))),
    "text.npy": lambda path: np.save(path, np.array(["ab", "\u00e9"])),
    "times.npy": lambda path: np.save(path, np.array(["2026-11-26"], "M8[s]")),
    "members.npz": lambda path: np.savez(path, a=np.zeros(3), b=np.zeros((2, 2))),
    "scan.nxs": hdf5,
    "table.parquet": parquet,
    "pic_1.png": picture,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_config_that_is_written_takes_its_sample(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    path = tmp_path / name
    path.write_text(sample, "utf-8") if isinstance(sample, str) else sample(path)

    said = run("init", "--from", name, cwd=tmp_path).stderr
    run("check", "--sample", name, cwd=tmp_path)
    (source,) = yaml.safe_load((tmp_path / "ingestd.yaml").read_text())["sources"].values()
    (tmp_path / source["drop"]).mkdir(parents=True)
    path.rename(tmp_path / source["drop"] / name)
    done = run("run", "--once", cwd=tmp_path).stderr

    assert f"{name}: taken by source" in said
    assert "1 file, " in done


def test_units_texts_and_gaps_of_a_table_are_seen(tmp_path) -> None:
    (tmp_path / "units.csv").write_text(SAMPLES["units.csv"])

    run("init", "--from", "units.csv", cwd=tmp_path)

    (source,) = yaml.safe_load((tmp_path / "ingestd.yaml").read_text())["sources"].values()
    assert source["options"] == {"missing": [""], "skip_after_header": 1}
    assert source["datasets"]["/data"]["dtype"] == {"time": "f8", "temp": "f8", "state": "S16"}


def test_numbers_in_a_name_are_proposed_as_captures(tmp_path) -> None:
    np.save(tmp_path / "run3_0012.npy", np.zeros(4))

    run("init", "--from", "run3_0012.npy", cwd=tmp_path)

    assert '# match: "run{run:d}_{n2:d}.npy"' in (tmp_path / "ingestd.yaml").read_text()


def test_a_sample_of_bare_bytes_is_told_of_raw(tmp_path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(100))

    assert "format: raw" in run("init", "--from", "a.bin", cwd=tmp_path, code=1).stderr
