"""Readers in other processes see rows while the daemon writes them, and never a wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from helpers import run
from station import Station, names, put, taken

# Nothing but h5py: what any reader would write. It believes every row within the extent.
READER = """
import select, sys
import h5py, numpy as np

dataset = h5py.File(sys.argv[1], "r", swmr=True)["/data"]
print("attached", flush=True)
seen, looks, last, wrong = 0, 0, False, []
while not wrong:
    dataset.refresh()
    end = len(dataset)
    new = dataset[seen:end]
    # A row is a file's number and its place; files come in order, each whole.
    if len(new) and not ((new[:, 0] * 500 + new[:, 1]) == np.arange(seen, end)).all():
        wrong.append(f"wrong rows between {seen} and {end}")
    looks += end > seen
    seen = max(seen, end)
    if last:
        break
    last = bool(select.select([sys.stdin], [], [], 0.001)[0])
print(seen, looks, *wrong)
"""


def attached(output: Path) -> subprocess.Popen[str]:
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None and reader.stdout.readline() == "attached\n"
    return reader


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_readers_see_rows_while_they_are_written_and_never_a_wrong_one(
    compression: str, tmp_path: Path
) -> None:
    files, config = 400, f"""
commit: {{every: 100ms}}
sources:
  a:
    drop: drop
    order: name
    output: data.h5
    datasets: {{/data: {{compression: {compression}, chunk_rows: 300}}}}
"""  # fmt: skip
    with Station(tmp_path, config) as station:
        put(tmp_path / "drop/000.npy", 0, 500)
        station.until_empty("drop")
        readers = [attached(tmp_path / "data.h5") for _ in range(2)]
        for number in range(1, files):
            put(tmp_path / f"drop/{number:03}.npy", number, 500)
        station.until_empty("drop")
        saw = [reader.communicate("", timeout=30)[0].split() for reader in readers]
        station.stop()

    for rows, looks, *wrong in saw:
        assert wrong == []
        assert int(rows) == files * 500
        assert int(looks) > 1, "rows did not come as they were written"
    # Under load flushes are coalesced.
    committed = len(station.lines("committed"))
    assert committed < files / 2


def test_a_reader_may_open_the_output_at_any_time(tmp_path: Path) -> None:
    with Station(tmp_path, "sources: {a: {drop: drop, output: data.h5}}") as station:
        for number in range(30):
            put(tmp_path / f"drop/{number}.npy", number)
            station.until(lambda n=number: taken(tmp_path / "data.h5")[n:] == [n], "it is seen")
            tailed = number % 10 == 0 and run("tail", "data.h5", "--once", cwd=tmp_path).stdout
            assert tailed is not None
        station.until_empty("drop")
        station.stop()
    with h5py.File(tmp_path / "data.h5", "r") as file:
        assert len(file["/data"]) == 60
    assert len(names(tmp_path / "done/a")) == 30


def test_after_a_kill_readers_go_on_with_their_first_handle(tmp_path: Path) -> None:
    config = "sources: {a: {drop: drop, order: name, output: data.h5}}"
    with Station(tmp_path, config) as station:
        put(tmp_path / "drop/000.npy", 0, 500)
        station.until_empty("drop")
        reader = attached(tmp_path / "data.h5")
        for number in range(1, 40):
            put(tmp_path / f"drop/{number:03}.npy", number, 500)
        station.until(lambda: len(taken(tmp_path / "data.h5")) > 5, "it is at work")
        station.kill()
    with Station(tmp_path) as station:
        for number in range(40, 80):
            put(tmp_path / f"drop/{number:03}.npy", number, 500)
        station.until_empty("drop")
        rows, _, *wrong = reader.communicate("", timeout=30)[0].split()
        station.stop()

    assert wrong == []
    assert int(rows) == 80 * 500
    assert taken(tmp_path / "data.h5") == list(range(80))
