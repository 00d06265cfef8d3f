"""Other people's readers on an output that a daemon is writing: what opens it, and with what."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import drop, run
from station import Station, save

import ingestd

CONFIG = """
sources:
  frames:
    drop: drop/frames
    output: data.h5
    datasets: {/entry/data: {compression: none, attrs: {units: counts}}}
    attrs: {/entry: {NX_class: NXdata, signal: data, axes: [time, y, x]}}
  log:
    drop: drop/log
    output: data.h5
    datasets: {/log: {}}
"""

LOG = np.array([(0, 1.5, b"up"), (1, 2.5, b"down")], [("n", "<i4"), ("T", "<f8"), ("s", "S4")])


def frames(start: int, stop: int) -> np.ndarray:
    return np.arange(start * 6, stop * 6, dtype="<u2").reshape(-1, 2, 3)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """A daemon at work, with three frames and two rows of a log written."""
    with Station(tmp_path, CONFIG) as station:
        drop(tmp_path / "drop/frames/0.npy", lambda path: save(path, frames(0, 3)))
        drop(tmp_path / "drop/log/0.npy", lambda path: save(path, LOG))
        station.until_empty("drop/frames", "drop/log")
        yield station


def more_frames(station: Station) -> None:
    drop(station.cwd / "drop/frames/1.npy", lambda path: save(path, frames(3, 5)))
    station.until_empty("drop/frames")


def test_xarray_refreshes_a_live_file(station: Station) -> None:
    pytest.importorskip("xarray", reason="pip install 'ingestd[xarray]'")
    ds = ingestd.open_xarray(station.cwd / "data.h5", chunks=None)
    more_frames(station)
    new = ds.ingestd.refresh()

    assert dict(ds.sizes) == {"time": 3, "y": 2, "x": 3, "log_row": 2}
    assert np.array_equal(ds["data"], frames(0, 3))
    assert np.array_equal(new["data"], frames(0, 5))
    assert new["data"].attrs == {"units": "counts"}


def test_pandas_makes_a_frame_of_compound_rows(station: Station) -> None:
    pd = pytest.importorskip("pandas", reason="pip install pandas")

    with ingestd.open(station.cwd / "data.h5") as view:
        frame = pd.DataFrame(view["/log"][:])

    assert frame.columns.tolist() == ["n", "T", "s"]
    assert frame["T"].tolist() == [1.5, 2.5]
    assert frame["s"].str.decode("utf-8").tolist() == ["up", "down"]


def test_h5grove_shows_a_live_file(station: Station) -> None:
    pytest.importorskip("h5grove", reason="pip install h5grove")
    from h5grove import create_content
    from h5grove.utils import open_file_with_error_fallback

    def no_error(code: int, text: str) -> Exception:
        return AssertionError(f"{code}: {text}")

    def look() -> tuple[dict[str, object], np.ndarray]:
        options = {"swmr": True, "locking": False}
        with open_file_with_error_fallback(station.cwd / "data.h5", no_error, options) as file:
            content = create_content(file, "/entry/data")
            return content.metadata(), content.data("2")

    before, _ = look()
    more_frames(station)
    after, frame = look()

    assert (before["shape"], after["shape"]) == ((3, 2, 3), (5, 2, 3))
    assert np.array_equal(frame, frames(2, 3)[0])


needs_tools = pytest.mark.skipif(
    shutil.which("h5dump") is None or shutil.which("h5ls") is None,
    reason="apt-get install hdf5-tools",
)


def tool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


def listed(path: Path) -> list[list[str]]:
    """What ``h5ls -r`` tells of the frames and the log."""
    done = tool("h5ls", "-r", path)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return [line for line in lines if line[0] in ("/entry/data", "/log")]


@needs_tools
def test_h5dump_and_h5ls_open_a_mended_copy_while_the_daemon_writes(station: Station) -> None:
    live, copy = station.cwd / "data.h5", station.cwd / "copy.h5"
    shutil.copyfile(live, copy)
    run("repair", "copy.h5", cwd=station.cwd)

    dumped = tool("h5dump", "-d", "/entry/data", "-y", "-w", "0", copy)

    assert listed(copy) == [
        ["/entry/data", "Dataset", "{3/Inf, 2, 3}"],
        ["/log", "Dataset", "{2/Inf}"],
    ]
    assert "0, 1, 2,\n" in dumped.stdout and "15, 16, 17\n" in dumped.stdout, dumped.stdout
    # These tools cannot read in SWMR mode. When that changes, tell so in docs/reading-with.md.
    assert tool("h5ls", live).returncode != 0
    assert tool("h5dump", "-H", live).returncode != 0


@needs_tools
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_h5dump_and_h5ls_open_the_file_itself_when_the_daemon_has_ended(
    tmp_path: Path, compression: str
) -> None:
    config = CONFIG.replace("compression: none", f"compression: {compression}")
    with Station(tmp_path, config) as station:
        drop(tmp_path / "drop/frames/0.npy", lambda path: save(path, frames(0, 3)))
        station.until_empty("drop/frames")
        station.stop()

    dumped = tool("h5dump", "-d", "/entry/data", "-y", "-w", "0", tmp_path / "data.h5")

    assert listed(tmp_path / "data.h5") == [["/entry/data", "Dataset", "{3/Inf, 2, 3}"]]
    assert "15, 16, 17\n" in dumped.stdout, dumped.stdout
