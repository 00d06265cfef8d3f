"""However files arrive, each settled one is taken once, whole, and in its source's order."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import drop
from station import (
    IS_ROOT,
    Station,
    configure,
    names,
    once,
    put,
    recorded_names,
    rows_of,
    save,
    taken,
    until_ctime_moves,
)

from ingestd.pipeline.settle import POLL_SECONDS

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")

BURST = """
scan: 1d
sources: {burst: {drop: drop, output: data.h5, after: delete}}
"""


@pytest.fixture
def short_queue() -> Iterator[None]:
    """The event queue of a daemon that starts now overflows soon, if this user may set that."""
    before = QUEUE.read_text()
    try:
        QUEUE.write_text("64")
    except PermissionError:
        yield  # the burst is as long as the queue: slower, and as true
        return
    yield
    QUEUE.write_text(before)


def by_rename(source: Path, target: Path) -> None:
    source.rename(target)


def by_copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    source.unlink()


def burst(cwd: Path, files: int, arrive: Callable[[Path, Path], None]) -> None:
    """Drop ``files`` files; for the first half the daemon stands still, so events are lost."""
    staged = cwd / "staged"
    staged.mkdir()
    for number in range(files):
        save(staged / f"{number}.npy", rows_of(number, 1))
    with Station(cwd, BURST) as station:
        put(cwd / "drop/first.npy", files, 1)
        station.until_empty("drop")
        station.process.send_signal(signal.SIGSTOP)
        for number in range(files):
            arrive(staged / f"{number}.npy", cwd / f"drop/{number}.npy")
            if number == files // 2:
                station.process.send_signal(signal.SIGCONT)
        station.until_empty("drop", seconds=300)
        station.stop()
        assert station.lines("quarantined") == []

    found = taken(cwd / "data.h5")
    assert len(found) == files + 1
    assert sorted(found) == list(range(files + 1))


@pytest.mark.parametrize("arrive", [by_rename, by_copy])
def test_of_a_burst_that_overflows_the_event_queue_no_file_is_lost(
    arrive: Callable[[Path, Path], None], short_queue: None, tmp_path: Path
) -> None:
    files = max(2000, 2 * int(QUEUE.read_text()) + 1000)

    burst(tmp_path, files, arrive)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("arrive", [by_rename, by_copy])
def test_of_50000_files_in_one_burst_no_file_is_lost(
    arrive: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    assert int(QUEUE.read_text()) < 25_000, "the queue is too long to overflow"

    burst(tmp_path, 50_000, arrive)


# Ways of writing, each with a source of its own, all with one daemon

WRITERS = """
commit: {every: 50ms}
sources:
  bell: {drop: drop/bell, output: bell.h5}
  open: {drop: drop/open, output: open.h5}
  quiet: {drop: drop/quiet, output: quiet.h5, settle: 'quiet:2s'}
  savetxt: {drop: drop/savetxt, output: savetxt.h5, datasets: {/data: {dtype: int64}}}
  memmap: {drop: drop/memmap, output: memmap.h5}
  rsync: {drop: drop/rsync, output: rsync.h5}
  links: {drop: drop/links, output: links.h5}
  names: {drop: drop/names, output: names.h5}
  twice: {drop: drop/twice, output: twice.h5}
  marker: {drop: drop/marker, output: marker.h5, settle: 'marker:.ready'}
  globs: {drop: drop/globs, output: globs.h5, match: '*.npy', recursive: true}
"""


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """One daemon for all of these, and for each a source."""
    with Station(tmp_path_factory.mktemp("writers"), WRITERS) as station:
        station.until(lambda: "globs" in names(station.cwd / "drop"), "drop directories are made")
        yield station
        station.stop()
        assert station.lines("quarantined") == []


_bells = iter(range(10**6))


def a_while(station: Station) -> None:
    """As long as the daemon needs to take another file, which also rings for all sources."""
    put(station.cwd / f"drop/bell/{next(_bells)}.npy", next(_bells))
    station.until_empty("drop/bell")


def test_a_file_that_its_writer_keeps_open_is_taken_when_it_is_closed(station: Station) -> None:
    drop_to, output = station.cwd / "drop/open", station.cwd / "open.h5"
    save(station.cwd / "whole.npy", rows_of(1, 5000))
    content = (station.cwd / "whole.npy").read_bytes()

    with (drop_to / "slow.npy").open("wb") as file:
        for at in range(0, len(content), 20_000):
            file.write(content[at : at + 20_000])
            file.flush()
            put(drop_to / f"other{at}.npy", 100 + at)
            station.until(lambda: names(drop_to) == ["slow.npy"], "the other is taken")
    station.until_empty("drop/open")

    assert taken(output) == [*range(100, 100 + len(content), 20_000), 1]


def test_a_file_that_is_opened_for_each_line_is_taken_when_it_stays_quiet(
    station: Station,
) -> None:
    path = station.cwd / "drop/quiet/log.csv"

    for part in range(5):
        with path.open("ab") as file:
            np.savetxt(file, rows_of(1, 10)[part * 2 : part * 2 + 2], "%d", delimiter=",")
        a_while(station)
    station.until_empty("drop/quiet")

    assert taken(station.cwd / "quiet.h5") == [1]


def test_savetxt_writes_into_the_drop_directory(station: Station) -> None:
    directory = station.cwd / "drop/savetxt"

    for number in range(5):
        np.savetxt(directory / f"{number}.csv", rows_of(number, 3000), "%d", delimiter=",")
        # One that was found open is looked at again so much later: the next must not be there yet.
        time.sleep(2 * POLL_SECONDS)
    station.until_empty("drop/savetxt")

    assert taken(station.cwd / "savetxt.h5") == [0, 1, 2, 3, 4]


def test_open_memmap_writes_into_the_drop_directory(station: Station) -> None:
    path = station.cwd / "drop/memmap/map.npy"

    rows = np.lib.format.open_memmap(path, mode="w+", dtype="<i8", shape=(1000, 2))
    for part in range(4):
        rows[part * 250 : part * 250 + 250] = rows_of(7, 1000)[part * 250 : part * 250 + 250]
        a_while(station)
    del rows
    station.until_empty("drop/memmap")

    assert taken(station.cwd / "memmap.h5") == [7]


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is missing: apt-get install rsync")
@pytest.mark.parametrize("how", ["--archive", "--inplace", "--temp-dir"])
def test_rsync_writes_into_the_drop_directory(how: str, station: Station) -> None:
    source = station.cwd / "instrument" / how.strip("-./=")
    source.mkdir(parents=True)
    before = taken(station.cwd / "rsync.h5")
    first = len(before)
    for number in range(first, first + 20):
        save(source / f"{number:02}.npy", rows_of(number, 4000))

    option = [how, station.cwd] if how == "--temp-dir" else [how]
    subprocess.run(["rsync", "-r", *option, f"{source}/", station.cwd / "drop/rsync"], check=True)
    station.until_empty("drop/rsync")

    assert taken(station.cwd / "rsync.h5") == list(range(first + 20))


def test_a_hard_link_is_taken_and_the_file_it_links_to_stays(station: Station) -> None:
    there = station.cwd / "there.npy"
    save(there, rows_of(1))
    content = there.read_bytes()

    os.link(there, station.cwd / "drop/links/one.npy")
    station.until_empty("drop/links")
    os.link(there, station.cwd / "drop/links/two.npy")
    station.until_empty("drop/links")

    assert taken(station.cwd / "links.h5") == [1]
    assert there.read_bytes() == content


NAMES = [
    b"two words.npy",
    b"two\nlines.npy",
    b"\xff\xfe not utf-8 \x80.npy",
    b"-rf.npy",
    b"'quoted' \"twice\".npy",
    "größer_実験.NPY".encode(),
    b"%s{0}$HOME\t\x1b[31m.npy",
    b"n" * 251 + b".npy",
]


def test_names_may_hold_any_bytes(station: Station) -> None:
    directory = os.fsencode(station.cwd / "drop/names")

    for number, name in enumerate(NAMES):
        with open(os.path.join(directory, name), "wb") as file:  # noqa: PTH118, PTH123 - bytes
            np.save(file, rows_of(number))
        station.until_empty("drop/names")

    assert taken(station.cwd / "names.h5") == list(range(len(NAMES)))
    assert recorded_names(station.cwd / "names.h5") == NAMES
    assert sorted(map(os.fsencode, names(station.cwd / "done/names"))) == sorted(NAMES)
    assert len(station.lines("source=names")) == len(NAMES)


def test_a_name_that_comes_again_with_other_content_is_another_file(station: Station) -> None:
    for number in (1, 2, 3):
        put(station.cwd / "drop/twice/same.npy", number)
        station.until_empty("drop/twice")

    assert taken(station.cwd / "twice.h5") == [1, 2, 3]
    done = station.cwd / "done/twice"
    assert names(done) == ["same.1.npy", "same.2.npy", "same.npy"]
    assert [int(np.load(done / name)[0, 0]) for name in names(done)] == [2, 3, 1]


def test_a_file_with_a_marker_waits_for_it(station: Station) -> None:
    directory = station.cwd / "drop/marker"
    put(directory / "late.npy", 1)
    put(directory / "soon.npy", 2)

    (directory / "soon.npy.ready").touch()
    station.until(lambda: names(directory) == ["late.npy"], "the marked file and its marker gone")
    (directory / "late.npy.ready").touch()
    station.until_empty("drop/marker")

    assert taken(station.cwd / "marker.h5") == [2, 1]
    assert names(station.cwd / "done/marker") == ["late.npy", "soon.npy"]


def test_below_a_recursive_source_only_what_matches_is_taken(station: Station) -> None:
    directory = station.cwd / "drop/globs"
    left = ["a.npy.part", "b.npy.tmp", "c.npy~", ".hidden.npy", "notes.txt", ".d/e.npy"]

    for number, name in enumerate([*left, "run/1/x.npy", "run/2/x.npy", "y.npy"]):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        save(directory / name, rows_of(number))
        until_ctime_moves(station.cwd)
    station.until(lambda: len(names(station.cwd / "done/globs/run/2")) == 1, "the last but one")
    station.until(lambda: "y.npy" not in names(directory), "the last one is taken")

    assert taken(station.cwd / "globs.h5") == [6, 7, 8]
    assert recorded_names(station.cwd / "globs.h5") == [b"run/1/x.npy", b"run/2/x.npy", b"y.npy"]
    assert all((directory / name).exists() for name in left)
    assert (station.cwd / "done/globs/run/1/x.npy").exists()


# Drop directories that come and go

COMING = """
scan: 200ms
sources: {frames: {drop: drop/frames, output: data.h5}}
"""


def recreated(directory: Path, station: Station) -> None:
    shutil.rmtree(directory)
    gone(station)
    directory.mkdir(parents=True)


def recreated_at_once(directory: Path, station: Station) -> None:
    shutil.rmtree(directory)
    directory.mkdir(parents=True)


def renamed_and_back(directory: Path, station: Station) -> None:
    away = directory.with_name("away")
    directory.rename(away)
    put(away / "meanwhile.npy", 1000)
    gone(station)
    away.rename(directory)


def replaced(directory: Path, station: Station) -> None:
    directory.rename(directory.with_name("away"))
    directory.mkdir()


def parent_renamed(directory: Path, station: Station) -> None:
    directory.parent.rename(directory.parent.with_name("away"))
    gone(station)
    directory.mkdir(parents=True)


def gone(station: Station) -> None:
    before = len(station.lines("the drop directory is back"))
    station.until(
        lambda: len(station.lines("cannot read the drop directory")) == before + 1, "it is said"
    )


def test_a_drop_directory_may_go_and_come_back(tmp_path: Path) -> None:
    directory = tmp_path / "drop/frames"
    changes = [recreated, renamed_and_back, replaced, recreated_at_once, parent_renamed]

    with Station(tmp_path, COMING) as station:
        put(directory / "first.npy", 0)
        station.until_empty("drop/frames")
        for number, change in enumerate(changes, 1):
            change(directory, station)
            put(directory / f"{number}.npy", number)
            station.until_empty("drop/frames")
            put(directory / f"{number}b.npy", number + 100)
            station.until_empty("drop/frames")
        station.stop()

    found = taken(tmp_path / "data.h5")
    assert [n for n in found if n < 1000] == [0, 1, 101, 2, 102, 3, 103, 4, 104, 5, 105]
    assert 1000 in found
    # Said once, when it goes and when it is back.
    assert len(station.lines("cannot read the drop directory")) == 3
    assert len(station.lines("the drop directory is back")) == 3


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount")
def test_a_drop_directory_may_be_unmounted_and_mounted_again(tmp_path: Path) -> None:
    directory = tmp_path / "drop/frames"
    directory.mkdir(parents=True)
    mounted = "mount -t tmpfs -o size=4m none"
    if subprocess.run([*mounted.split(), directory], capture_output=True).returncode:
        pytest.skip("this root may not mount (a container?)")

    try:
        with Station(tmp_path, COMING) as station:
            put(directory / "1.npy", 1)
            station.until_empty("drop/frames")
            subprocess.run(["umount", directory], check=True)
            put(directory / "below.npy", 2)
            station.until_empty("drop/frames")
            subprocess.run([*mounted.split(), directory], check=True)
            put(directory / "3.npy", 3)
            station.until_empty("drop/frames")
            station.stop()
    finally:
        subprocess.run(["umount", directory], capture_output=True)

    assert taken(tmp_path / "data.h5") == [1, 2, 3]
    assert names(tmp_path / "done/frames") == ["1.npy", "3.npy", "below.npy"]


# What is decided by the config; a daemon that takes what is there, and ends


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("arrival", ["run9_3", "run10_2", "run1_1", "run2_4"]),
        ("name", ["run10_2", "run1_1", "run2_4", "run9_3"]),
        ("mtime", ["run2_4", "run1_1", "run10_2", "run9_3"]),
        ("'{seq}'", ["run1_1", "run10_2", "run9_3", "run2_4"]),
        ("'{run}'", ["run1_1", "run2_4", "run9_3", "run10_2"]),
    ],
)
def test_files_that_were_there_before_the_start_are_taken_in_order(
    order: str, expected: list[str], tmp_path: Path
) -> None:
    for number, name in enumerate(["run9_3", "run10_2", "run1_1", "run2_4"]):
        put(tmp_path / f"drop/{name}.npy", number)
        os.utime(tmp_path / f"drop/{name}.npy", (10**9 - number, 10**9 - number))
        until_ctime_moves(tmp_path)

    once(
        tmp_path,
        f"sources: {{a: {{drop: drop, output: data.h5, order: {order},"
        " match: 'run{run:d}_{seq:d}.npy'}}",
    )

    assert [n.decode() for n in recorded_names(tmp_path / "data.h5")] == [
        f"{name}.npy" for name in expected
    ]


@pytest.mark.parametrize(
    ("duplicates", "rows", "failed", "code"),
    [("skip", [1, 2], [], 0), ("append", [1, 1, 2], [], 0), ("quarantine", [1, 2], ["b.npy"], 1)],
)
def test_the_same_content_under_another_name_is_treated_as_the_config_says(
    duplicates: str, rows: list[int], failed: list[str], code: int, tmp_path: Path
) -> None:
    configure(
        tmp_path, f"sources: {{a: {{drop: drop, output: data.h5, duplicates: {duplicates}}}}}"
    )
    put(tmp_path / "drop/a.npy", 1)
    once(tmp_path)
    put(tmp_path / "drop/b.npy", 1)
    put(tmp_path / "drop/c.npy", 2)

    log = once(tmp_path, code=code)

    assert taken(tmp_path / "data.h5") == rows
    assert [n for n in names(tmp_path / "failed/a") if "reason" not in n] == failed
    assert names(tmp_path / "done/a") == sorted({"a.npy", "b.npy", "c.npy"} - set(failed))
    assert ("same content as a.npy" in log) == (duplicates != "append")


@pytest.mark.parametrize("after", ["keep", "delete", "{move: elsewhere/it}"])
def test_a_done_file_is_kept_deleted_or_moved_and_not_taken_again(
    after: str, tmp_path: Path
) -> None:
    configure(tmp_path, f"sources: {{a: {{drop: drop, output: data.h5, after: {after}}}}}")
    put(tmp_path / "drop/a.npy", 1)
    once(tmp_path)

    log = once(tmp_path)
    drop(tmp_path / "drop/a.npy", lambda path: save(path, rows_of(2)))
    once(tmp_path)

    assert "0 files" in log
    assert taken(tmp_path / "data.h5") == [1, 2]
    assert names(tmp_path / "drop") == (["a.npy"] if after == "keep" else [])
    assert names(tmp_path / "elsewhere/it") == (["a.1.npy", "a.npy"] if "move" in after else [])
    assert not (tmp_path / "done").exists()


def test_an_array_appended_to_the_open_output_is_seen_by_plain_h5py(tmp_path: Path) -> None:
    with Station(tmp_path, "sources: {a: {drop: drop, output: data.h5}}") as station:
        put(tmp_path / "drop/a.npy", 1)
        station.until_empty("drop")
        with h5py.File(tmp_path / "data.h5", "r", swmr=True) as file:
            dataset = file["/data"]
            put(tmp_path / "drop/b.npy", 2)
            station.until_empty("drop")
            dataset.refresh()

            assert np.array_equal(dataset[:], np.concatenate((rows_of(1), rows_of(2))))
        station.stop()
