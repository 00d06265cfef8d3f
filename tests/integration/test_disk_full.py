"""A full disk is waited out: said once, gone on from, and nothing is lost, twice or wrong."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import ENVIRONMENT, run
from station import IS_ROOT, Station, names, once, put, rows_of, taken

CONFIG = """
memory: 8MiB
commit: {every: 20ms}
sources: {a: {drop: drop, output: full/data.h5, datasets: {/data: {chunk_rows: 100}}}}
"""
ROWS = 20_000
FILE_BYTES = ROWS * 16
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Attached:
    """A reader that never lets go of its first handle, and checks each row that is committed."""

    def __init__(self, output: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, output],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "attached\n"

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def saw(self) -> str:
        """End it; how many rows it saw, and whatever was wrong."""
        said, _ = self.process.communicate("", timeout=30)
        return said.strip()


READER = """
import select, sys
import h5py, numpy as np
from ingestd import layout

file = h5py.File(sys.argv[1], "r", swmr=True)
rows, records = file["/data"], file[layout.records_path("/data")]
print("attached", flush=True)
seen, last, wrong = 0, False, []
while not wrong:
    try:
        records.refresh()
        end = layout.committed_rows(records[-1]) if len(records) else 0
        rows.refresh()
        new = rows[seen:end]
    except OSError:
        continue
    places = new[:, 1]
    at = np.arange(seen, end) % 20000
    if end < seen or not (places == at).all() or (new[:, 0] == 0).any():
        wrong.append(f"wrong rows between {seen} and {end}")
    seen = end
    if last:
        break
    last = bool(select.select([sys.stdin], [], [], 0.005)[0])
print(seen, *wrong)
"""


def limit(station: Station, file_bytes: int | None) -> None:
    """Files of this daemon may grow to ``file_bytes``, or again without end."""
    limits = UNLIMITED if file_bytes is None else (file_bytes, resource.RLIM_INFINITY)
    resource.prlimit(station.process.pid, resource.RLIMIT_FSIZE, limits)


def waits(station: Station, times: int = 1) -> None:
    station.until(lambda: len(station.lines("waiting, nothing is lost")) == times, "it says so")


def goes_on(station: Station, times: int = 1) -> None:
    station.until_empty("drop")
    station.until(lambda: len(station.lines("going on")) == times, "it says so")


def test_writes_that_fail_are_waited_out_again_and_again(tmp_path: Path) -> None:
    output = tmp_path / "full/data.h5"
    with Station(tmp_path, CONFIG) as station:
        put(tmp_path / "drop/01.npy", 1, ROWS)
        station.until_empty("drop")
        reader = Attached(output)

        for turn in (1, 2, 3):
            limit(station, output.stat().st_size + FILE_BYTES * turn // 2)
            for number in range(turn * 10, turn * 10 + 5):
                put(tmp_path / f"drop/{number}.npy", number, ROWS)
            waits(station, turn)
            retried(station)
            limit(station, None)
            goes_on(station, turn)
        station.stop()
        saw = reader.saw()

    expected = [1, *range(10, 15), *range(20, 25), *range(30, 35)]
    assert taken(output) == expected
    assert saw == str(ROWS * len(expected))
    assert len(names(tmp_path / "done/a")) == len(expected)
    # Once each time, however often it tries.
    assert len(station.lines("warning")) == 3
    run("verify", "full/data.h5", cwd=tmp_path)


def retried(station: Station) -> None:
    """Wait until it has tried again, twice: each try writes down what it repairs."""
    note = station.cwd / "state/repairs/data.h5.json"
    for _ in range(2):
        before = stamp(note)
        station.until(lambda before=before: stamp(note) != before, "it tries again")


def stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def test_killed_while_it_waits_it_goes_on_after_the_restart(tmp_path: Path) -> None:
    output = tmp_path / "full/data.h5"
    with Station(tmp_path, CONFIG) as station:
        put(tmp_path / "drop/1.npy", 1, ROWS)
        station.until_empty("drop")
        reader = Attached(output)
        limit(station, output.stat().st_size + FILE_BYTES)
        for number in range(2, 7):
            put(tmp_path / f"drop/{number}.npy", number, ROWS)
        waits(station)
        station.kill()

    with Station(tmp_path) as station:
        station.until_empty("drop")
        station.stop()

    assert taken(output) == [1, 2, 3, 4, 5, 6]
    assert reader.saw() == str(ROWS * 6)
    run("verify", "full/data.h5", cwd=tmp_path)


def test_stopped_while_it_waits_it_ends_at_once(tmp_path: Path) -> None:
    with Station(tmp_path, CONFIG) as station:
        put(tmp_path / "drop/1.npy", 1, ROWS)
        station.until_empty("drop")
        limit(station, (tmp_path / "full/data.h5").stat().st_size)
        put(tmp_path / "drop/2.npy", 2, ROWS)
        waits(station)

        station.stop(seconds=5)
    once(tmp_path)

    assert taken(tmp_path / "full/data.h5") == [1, 2]


@pytest.fixture
def small_disk(request, tmp_path: Path) -> Iterator[Path]:
    """A disk at ``full/`` of 4 MiB, or of what the parameter says."""
    if not IS_ROOT:
        pytest.skip("only root may mount")
    disk = tmp_path / "full"
    disk.mkdir()
    size = f"size={getattr(request, 'param', '4m')}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", disk]).returncode:
        pytest.skip("this root may not mount (a container?)")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("state", ["state", "full/state"])
def test_a_full_disk_is_waited_out(state: str, small_disk: Path, tmp_path: Path) -> None:
    ballast = small_disk / "ballast"
    config = f"state: {state}\n{CONFIG}"
    with Station(tmp_path, config, started=False) as station:
        station.until(lambda: (tmp_path / "drop").exists(), "the drop directory is made")
        put(tmp_path / "drop/1.npy", 1, ROWS)
        station.until_empty("drop")
        reader = Attached(small_disk / "data.h5")
        fill(ballast)

        for number in range(2, 6):
            put(tmp_path / f"drop/{number}.npy", number, ROWS)
        waits(station)
        ballast.unlink()
        goes_on(station)
        station.stop()
        saw = reader.saw()

    assert taken(small_disk / "data.h5") == [1, 2, 3, 4, 5]
    assert saw == str(ROWS * 5)
    with h5py.File(small_disk / "data.h5", "r") as file:
        assert np.array_equal(file["/data"][-ROWS:], rows_of(5, ROWS))
    # Once: what it tries meanwhile is not worth a line.
    assert len(station.lines("waiting")) == len(station.lines("going on")) == 1


def fill(ballast: Path) -> None:
    """Leave no room on the disk."""
    with ballast.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 14))
            except OSError:
                return


def test_run_once_on_a_full_disk_ends_with_75_and_later_goes_on(
    small_disk: Path, tmp_path: Path
) -> None:
    put(tmp_path / "drop/1.npy", 1, ROWS)
    once(tmp_path, CONFIG)
    for number in range(2, 6):
        put(tmp_path / f"drop/{number}.npy", number, ROWS)
    fill(small_disk / "ballast")

    log = once(tmp_path, code=75)
    (small_disk / "ballast").unlink()
    once(tmp_path)

    assert "full/data.h5: No space left on device" in log
    assert taken(small_disk / "data.h5") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("small_disk", ["40m"], indirect=True)
def test_with_a_reserve_a_full_disk_is_met_before_a_write_fails(
    small_disk: Path, tmp_path: Path
) -> None:
    output = small_disk / "data.h5"
    with Station(tmp_path, f"reserve: 16MiB\n{CONFIG}") as station:
        put(tmp_path / "drop/1.npy", 1, ROWS)
        station.until_empty("drop")
        held = ahead(output)
        fill(small_disk / "ballast")
        for number in range(2, 40):
            put(tmp_path / f"drop/{number:02d}.npy", number, ROWS)
        waits(station)
        (small_disk / "ballast").unlink()
        goes_on(station)
        station.stop()

    assert held >= 8 << 20
    assert taken(output) == [1, *range(2, 40)]
    assert ahead(output) < 1 << 20
    (said,) = station.lines("waiting")
    assert "No space left on device for its reserve of 16 MiB" in said
    # Closed in good order: there was nothing to mend.
    assert not list((tmp_path / "state/repairs").glob("*"))


def ahead(path: Path) -> int:
    """Bytes that are allocated beyond the file's end."""
    found = path.stat()
    return found.st_blocks * 512 - found.st_size
