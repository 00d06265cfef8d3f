"""Other people's readers on an output that a daemon is writing: what opens it, and with what."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12: fork beside threads
def test_torch_workers_share_live_rows_also_over_a_killed_writer(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="pip install torch")
    import multiprocessing

    from torch.utils.data import DataLoader

    from ingestd.torch import TailDataset

    stop = multiprocessing.get_context("fork").Event()
    tail = TailDataset(tmp_path / "data.h5", "/entry/data", stop=stop, timeout=60, block_rows=4)
    loader = DataLoader(tail, batch_size=1, num_workers=2, in_order=False)
    seen: list[int] = []

    def put(number: int) -> None:
        drop(
            tmp_path / f"drop/frames/{number}.npy",
            lambda path: save(path, frames(number * 3, number * 3 + 3)),
        )

    with Station(tmp_path, CONFIG) as station:
        put(0)
        batches = iter(loader)
        seen += [int(next(batches)[0, 0, 0]) // 6 for _ in range(3)]
        for number in range(1, 8):
            put(number)
        station.kill()
    with Station(tmp_path):
        for number in range(8, 16):
            put(number)
        seen += [int(next(batches)[0, 0, 0]) // 6 for _ in range(45)]
        stop.set()
        late = list(batches)

    assert sorted(seen) == list(range(48))
    assert late == []


KEYED = """
sources:
  frames:
    drop: drop/frames
    output: data.h5
    datasets: {/entry/data: {keys: true}}
"""

SWMR_TOOLS = """
import sys
import h5py
from swmr_tools import DataSource

with h5py.File(sys.argv[1], "r", swmr=True, locking=False) as file:
    keys = file["/ingestd/entry/data/key"]
    finished = file["/ingestd/entry/data/finished"]
    source = DataSource([keys], {"/entry/data": file["/entry/data"]}, 20, finished)
    for sample in source:
        print(sample.index, int(sample["/entry/data"][0, 0, 0]), flush=True)
    print("finished" if source.is_scan_finished() else "timed out")
"""


def test_swmr_tools_follows_a_live_file_until_the_daemon_ends(tmp_path: Path) -> None:
    pytest.importorskip("swmr_tools", reason="pip install swmr-tools")
    with Station(tmp_path, KEYED) as station:
        drop(tmp_path / "drop/frames/0.npy", lambda path: save(path, frames(0, 3)))
        station.until_empty("drop/frames")
        reader = subprocess.Popen(
            [sys.executable, "-c", SWMR_TOOLS, tmp_path / "data.h5"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdout is not None
        early = [reader.stdout.readline() for _ in range(3)]
        drop(tmp_path / "drop/frames/1.npy", lambda path: save(path, frames(3, 5)))
        late = [reader.stdout.readline() for _ in range(2)]
        station.until_empty("drop/frames")
        station.stop()
        rest = reader.communicate(timeout=60)[0]

    assert early + late == [f"{n} {n * 6}\n" for n in range(5)]
    assert rest == "finished\n"


def test_keys_of_rows_go_with_the_commit_and_say_when_nobody_writes(tmp_path: Path) -> None:
    def look() -> tuple[list[int], list[int]]:
        with h5py.File(tmp_path / "data.h5", "r", swmr=True, locking=False) as file:
            group = file["/ingestd/entry/data"]
            return group["key"][:].tolist(), group["finished"][:].tolist()

    with Station(tmp_path, KEYED) as station:
        drop(tmp_path / "drop/frames/0.npy", lambda path: save(path, frames(0, 3)))
        station.until_empty("drop/frames")
        live = look()
        station.stop()
    closed = look()
    with Station(tmp_path) as station:
        station.until(lambda: look()[1] == [0], "it is open again")
        drop(tmp_path / "drop/frames/1.npy", lambda path: save(path, frames(3, 5)))
        station.until_empty("drop/frames")
        again = look()
        station.kill()
    run("run", "--once", "-c", "x.yaml", cwd=tmp_path)

    assert (live, closed) == (([1, 2, 3], [0]), ([1, 2, 3], [1]))
    assert again == ([1, 2, 3, 4, 5], [0])
    assert look() == ([1, 2, 3, 4, 5], [1])
    assert run("verify", "data.h5", cwd=tmp_path).returncode == 0
    assert ingestd.open(tmp_path / "data.h5").datasets == ("/entry/data",)


@pytest.mark.parametrize("there", [1, 9])
def test_keys_that_a_crash_left_out_or_left_over_are_put_right(tmp_path: Path, there: int) -> None:
    (tmp_path / "x.yaml").write_text(KEYED)
    drop(tmp_path / "drop/frames/0.npy", lambda path: save(path, frames(0, 3)))
    run("run", "--once", "-c", "x.yaml", cwd=tmp_path)
    with h5py.File(tmp_path / "data.h5", "r+") as file:
        file["/ingestd/entry/data/key"].resize(there, axis=0)

    run("run", "--once", "-c", "x.yaml", cwd=tmp_path)

    with h5py.File(tmp_path / "data.h5", "r") as file:
        assert file["/ingestd/entry/data/key"][:].tolist() == [1, 2, 3]
