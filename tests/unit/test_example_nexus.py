"""The NeXus example gives a file that a NeXus viewer opens at its default plot."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ingestd.config import load
from tests.flows import take_all

EXAMPLE = Path(__file__).parents[2] / "examples/nexus"


@pytest.fixture
def output(tmp_path, monkeypatch) -> Path:
    """What becomes of three frames and a temperature log of one scan."""
    shutil.copy(EXAMPLE / "ingestd.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    config = load(Path("ingestd.yaml"))
    for source in config.sources.values():
        source.drop.mkdir(parents=True)
    for frame in (2, 0, 1):
        np.save(f"drop/frames/scan7_{frame}.npy", np.full((4, 5), frame, "u2"))
    Path("drop/temperature/scan7_0.csv").write_text("seconds,kelvin\n0,293.1\n1,293.4\n")
    done = take_all(config)
    assert (done.files, done.quarantined) == (4, 0)
    return tmp_path / "data/scan0007.nxs"


def test_the_chain_of_defaults_leads_to_the_frames(output) -> None:
    with h5py.File(output) as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        signal = data[data.attrs["signal"]]

        assert entry.attrs["NX_class"] == "NXentry"
        assert data.attrs["NX_class"] == "NXdata"
        assert signal[:, 0, 0].tolist() == [0, 1, 2]
        assert signal.attrs["units"] == "counts"
        assert file["/entry/temperature/value"][:].ravel().tolist() == [293.1, 293.4]


def test_silx_finds_the_default_plot(output) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata", reason="silx is not installed")

    with h5py.File(output) as file:
        plot = nxdata.get_default(file)

        assert plot.is_valid
        assert plot.signal.shape == (3, 4, 5)
