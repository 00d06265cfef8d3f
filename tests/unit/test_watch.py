"""The watch hands out every settled file, in order, once at a time, within a bound."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from flows import make_config, make_source, take_all
from helpers import until

from ingestd.config import Source
from ingestd.errors import BusyWorld
from ingestd.model import DropFile, NotYet
from ingestd.pipeline import decode as decode_module
from ingestd.pipeline import events as events_module
from ingestd.pipeline import scan as scan_module
from ingestd.pipeline import watch as watch_module
from ingestd.pipeline.commit import Batch, Committer
from ingestd.pipeline.line import file_at
from ingestd.pipeline.reorder import Closed
from ingestd.pipeline.scan import SourceScan, walk
from ingestd.pipeline.watch import Bell, Watch


class Clock:
    """The clocks that the watch looks at; it goes on only when told to."""

    def __init__(self) -> None:
        self.monotonic_seconds = 1000.0
        # An hour past all files that a test makes.
        self.real_ns = time.time_ns() + 3600 * 10**9

    def go_on(self, seconds: float) -> None:
        self.monotonic_seconds += seconds
        self.real_ns += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.monotonic_seconds)
    monkeypatch.setattr(time, "time", lambda: made.real_ns / 1e9)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: made.real_ns)
    return made


def unknown(file: DropFile) -> bool:
    return False


def a_watch(source: Source, files_max: int = 100) -> SourceScan:
    return SourceScan(source, Bell().ring, files_max, 5.0, threading.Lock())


def waiting(watch: SourceScan) -> list[str]:
    """The names of those that wait, in order."""
    return [file_at(place, "s").name for place in reversed(watch._line)]


def names(watch: SourceScan, known: Callable[[DropFile], bool] = unknown) -> list[str]:
    """A look at the directory, and what waits after it."""
    watch.scan(known)
    return waiting(watch)


def take_one(watch: SourceScan) -> DropFile:
    """The first of those that wait; it counts as finished at once."""
    return file_at(watch._line.pop(), watch.source.name)


def touch(source: Source, *files: str) -> None:
    for name in files:
        path = source.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"order": "name"}, ["a10.npy", "a9.npy", "b1.npy"]),
        ({"order": "mtime"}, ["a9.npy", "b1.npy", "a10.npy"]),
        ({"order": "arrival"}, ["b1.npy", "a10.npy", "a9.npy"]),
        ({"order": "{n}", "match": "{c}{n:d}.npy"}, ["b1.npy", "a9.npy", "a10.npy"]),
    ],
)
def test_files_wait_in_the_sources_order(tmp_path, clock, monkeypatch, keys, expected) -> None:
    source = make_source(tmp_path, **keys)
    touch(source, "b1.npy", "a10.npy", "a9.npy")
    for at, name in enumerate(["a9.npy", "b1.npy", "a10.npy"]):
        os.utime(source.drop / name, (at, at))
    arrived = ["b1.npy", "a10.npy", "a9.npy"]
    for name in arrived:  # a change of name is an arrival, and takes a tick of the kernel's clock
        before = max((p.stat().st_ctime_ns for p in source.drop.iterdir()), default=0)
        until(lambda n=name, b=before: _renamed(source.drop / n) > b, "a new tick")

    assert names(a_watch(source)) == expected


def _renamed(path: Path) -> int:
    hidden = path.with_name(".moved")
    path.rename(hidden)
    hidden.rename(path)
    return path.stat().st_ctime_ns


def test_files_of_one_time_go_by_name_with_its_numbers(tmp_path, clock) -> None:
    source = make_source(tmp_path, order="mtime")
    touch(source, "r10.npy", "r9.npy", "r9b.npy", "r100.npy")
    for path in source.drop.iterdir():
        os.utime(path, (5, 5))

    assert names(a_watch(source)) == ["r9.npy", "r9b.npy", "r10.npy", "r100.npy"]


def test_names_that_count_alike_at_one_time_go_by_their_letters(tmp_path, clock) -> None:
    source = make_source(tmp_path, match="f{seq:d}.npy", order="{seq}")
    touch(source, "f1.npy", "f01.npy", "f001.npy", "f0.npy")

    assert names(a_watch(source)) == ["f0.npy", "f001.npy", "f01.npy", "f1.npy"]


def test_a_file_is_handed_out_once_until_it_is_finished(tmp_path, clock) -> None:
    config = make_config(tmp_path)
    touch(config.sources["s"], "a.npy")
    watch = Watch(config.sources, 5.0, observe=False, turn=threading.Lock())
    watch.look(unknown)
    (file,) = watch.next()
    assert watch.next() == ()

    watch.sources["s"].ring()
    watch.look(unknown)
    assert watch.next() == ()
    assert not watch.nothing_left()

    watch.finished([file])
    watch.sources["s"].ring()
    watch.look(unknown)
    assert watch.next() == (file,)


def test_a_file_that_came_too_early_is_looked_at_again_after_its_time(tmp_path, clock) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")
    watch = a_watch(source)
    assert names(watch) == ["a.npy"]
    (file,) = watch.take()

    watch.again(file, NotYet(2.0, "somebody is writing it"))
    assert names(watch) == []
    assert watch.due_in() == pytest.approx(2.0)
    clock.go_on(1.9)
    assert names(watch) == []
    clock.go_on(0.2)

    assert watch.due_in() == 0.0
    assert names(watch) == ["a.npy"]


def test_a_held_file_that_has_changed_is_taken_at_once(tmp_path, clock) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")
    watch = a_watch(source)
    names(watch)
    watch.again(take_one(watch), NotYet(60.0, "x"))
    assert names(watch) == []

    (source.drop / "a.npy").write_bytes(b"more")

    assert names(watch) == ["a.npy"]


@pytest.mark.parametrize("soon", [False, True])
def test_once_waits_for_what_time_alone_settles_only(tmp_path, clock, soon: bool) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")
    watch = a_watch(source)
    names(watch)
    watch.again(take_one(watch), NotYet(2.0, "x", soon=soon))

    names(watch)

    assert watch.nothing_left() is not soon


def test_files_of_the_kernels_tick_are_left_for_the_next_look(tmp_path, clock) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")
    clock.real_ns = (source.drop / "a.npy").stat().st_ctime_ns
    watch = a_watch(source)

    assert names(watch) == []
    assert not watch.nothing_left()
    assert 0 < watch.due_in() <= 0.1
    clock.go_on(0.1)

    assert watch.due_in() == 0.0
    assert names(watch) == ["a.npy"]


def test_a_stamp_far_in_the_future_holds_nothing_up(tmp_path, clock) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")
    clock.real_ns = (source.drop / "a.npy").stat().st_ctime_ns - 3600 * 10**9

    assert names(a_watch(source)) == ["a.npy"]


def test_a_file_that_comes_late_in_a_long_reading_waits_for_the_next(
    tmp_path, clock, monkeypatch
) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")
    arrived_ns = (source.drop / "a.npy").stat().st_ctime_ns
    now = iter([arrived_ns - 3 * 10**9])  # then the directory has been read for 3 s
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: next(now, arrived_ns + 10**6))

    assert names(a_watch(source)) == []


def test_a_stamp_a_little_ahead_holds_up_a_little_only(tmp_path, clock) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")
    clock.real_ns = (source.drop / "a.npy").stat().st_ctime_ns - 5 * 10**8
    watch = a_watch(source)
    assert names(watch) == []

    clock.go_on(0.6)

    assert names(watch) == ["a.npy"]


@pytest.mark.parametrize(("after", "expected"), [("keep", ["new.npy"]), ("delete", None)])
def test_only_where_files_are_kept_the_ledger_is_asked(tmp_path, clock, after, expected) -> None:
    source = make_source(tmp_path, after=after, order="name")
    touch(source, "new.npy", "taken.npy")
    asked: list[str] = []

    def known(file: DropFile) -> bool:
        asked.append(file.name)
        return file.name == "taken.npy"

    found = names(a_watch(source), known)

    assert found == (expected or ["new.npy", "taken.npy"])
    assert bool(asked) == (after == "keep")


def test_a_missing_directory_is_waited_for_and_said_once(tmp_path, clock, caplog) -> None:
    source = make_source(tmp_path)
    source.drop.rmdir()
    watch = a_watch(source)
    with caplog.at_level(logging.INFO, logger="ingestd"):
        assert names(watch) == names(watch) == []
        assert watch.due_in() == 5.0
        touch(source, "a.npy")
        clock.go_on(5.1)

        assert names(watch) == names(watch) == ["a.npy"]

    messages = [record.message for record in caplog.records]
    assert len(messages) == 2
    assert "cannot read the drop directory" in messages[0]
    assert messages[1] == "the drop directory is back"


def test_of_a_backlog_only_the_next_files_are_known(tmp_path, clock) -> None:
    source = make_source(tmp_path, order="name")
    touch(source, *(f"{i:02}.npy" for i in range(30)))
    watch = a_watch(source, files_max=8)
    taken = []

    while names(watch):
        assert watch.waiting <= 8
        file = take_one(watch)
        (source.drop / file.name).unlink()
        taken.append(file.name)

    assert taken == [f"{i:02}.npy" for i in range(30)]


def test_while_enough_files_wait_the_directory_is_not_read(tmp_path, clock) -> None:
    source = make_source(tmp_path, order="name")
    touch(source, *(f"{i:02}.npy" for i in range(30)))
    watch = a_watch(source, files_max=8)
    names(watch)

    watch.ring()
    assert watch.due_in() > 0
    while watch.waiting > 2:
        take_one(watch)

    assert watch.due_in() == 0.0


def test_while_enough_files_wait_the_directory_is_read_again_in_time(tmp_path, clock) -> None:
    source = make_source(tmp_path, order="name")
    touch(source, *(f"{i:02}.npy" for i in range(30)))
    watch = a_watch(source, files_max=80)
    names(watch)
    touch(source, "00a.npy")
    watch.ring()
    assert watch.due_in() > 0

    clock.go_on(5.1)

    assert watch.due_in() == 0.0
    assert names(watch)[:3] == ["00.npy", "00a.npy", "01.npy"]


def test_of_files_with_long_names_fewer_are_known(tmp_path, clock) -> None:
    source = make_source(tmp_path, order="name")
    expected = [f"{i:02}{'x' * 180}.npy" for i in range(30)]
    touch(source, *expected)
    watch = a_watch(source, files_max=8)
    taken = []

    while names(watch):
        assert watch.waiting <= 4
        file = take_one(watch)
        (source.drop / file.name).unlink()
        taken.append(file.name)

    assert taken == expected


def test_a_file_that_one_reading_saw_twice_is_handed_out_once(tmp_path, clock, monkeypatch) -> None:
    source = make_source(tmp_path, order="name")
    touch(source, "a.npy", "b.npy")
    monkeypatch.setattr(
        scan_module, "walk", lambda *args: (e for e in walk(*args) for _ in range(2))
    )
    watch = a_watch(source)
    watch.scan(unknown)

    assert [file.name for file in watch.take()] == ["a.npy", "b.npy"]


def test_while_the_directory_is_away_none_of_its_files_is_handed_out(tmp_path, clock) -> None:
    source = make_source(tmp_path, order="name")
    expected = [f"{i:02}.npy" for i in range(5)]
    touch(source, *expected)
    watch = a_watch(source)
    names(watch)

    source.drop.rename(tmp_path / "away")
    assert watch.take() == ()
    assert names(watch) == []
    (tmp_path / "away").rename(source.drop)

    assert names(watch) == expected


def test_a_long_reading_ends_when_it_is_to_stop(tmp_path, clock) -> None:
    source = make_source(tmp_path)
    touch(source, *(f"{i:04}.npy" for i in range(1000)))
    stops = iter([False, True])
    watch = SourceScan(
        source, Bell().ring, 2000, 5.0, threading.Lock(), stopping=lambda: next(stops)
    )

    with pytest.raises(Closed):
        watch.scan(unknown)

    assert watch.waiting == 0


def test_sources_take_turns(tmp_path, clock) -> None:
    sources = {}
    for name in ("p", "q"):
        source = make_source(tmp_path / name, order="name")
        touch(source, *(f"{name}{i}.npy" for i in range(3)))
        sources[name] = source.model_copy(update={"name": name})
    watch = Watch(sources, 5.0, observe=False, turn=threading.Lock())
    watch.look(unknown)

    taken = [watch.next() for _ in range(3)]

    assert [[file.name for file in files] for files in taken] == [
        ["p0.npy", "p1.npy", "p2.npy"],
        ["q0.npy", "q1.npy", "q2.npy"],
        [],
    ]


def test_what_is_hidden_unfinished_or_of_another_kind_is_left_alone(tmp_path, clock) -> None:
    source = make_source(tmp_path, settle="marker:.ready")
    touch(source, ".a.npy", "a.npy.part", "a.npy~", "a.txt", "b.npy", "c.npy", "c.npy.ready")

    assert names(a_watch(source)) == ["c.npy"]


def test_directories_below_are_read_only_if_asked_for(tmp_path, clock) -> None:
    for recursive, expected in ((False, ["a.npy"]), (True, ["a.npy", "run/b.npy", "run/x/c.npy"])):
        source = make_source(tmp_path / str(recursive), recursive=recursive, order="name")
        touch(source, "a.npy", "run/b.npy", "run/x/c.npy")

        assert names(a_watch(source)) == expected


def test_links_to_directories_are_not_followed(tmp_path, clock) -> None:
    source = make_source(tmp_path, recursive=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.npy").write_bytes(b"x")
    (source.drop / "link").symlink_to(outside)

    assert names(a_watch(source)) == []


def test_a_directory_below_that_cannot_be_read_harms_no_other(tmp_path, clock, monkeypatch) -> None:
    source = make_source(tmp_path, recursive=True, order="name")
    touch(source, "a.npy", "locked/b.npy", "open/c.npy")
    scandir = os.scandir

    def refuse(path: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    watch = a_watch(source)

    assert names(watch) == ["a.npy", "open/c.npy"]
    assert watch.unread() == [str(source.drop / "locked")]


def test_once_does_not_pass_over_a_directory_that_cannot_be_read(tmp_path, monkeypatch) -> None:
    config = make_config(tmp_path)
    drop = config.sources["s"].drop

    def refuse(path: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(BusyWorld, match=f"{drop}: cannot be read, so nothing there was taken"):
        take_all(config)


def test_a_file_that_vanishes_while_the_directory_is_read_is_passed_over(
    tmp_path, clock, monkeypatch
) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy", "b.npy")
    watch = a_watch(source)
    match = watch._matcher.match

    def vanish(name: str) -> object:
        (source.drop / "a.npy").unlink(missing_ok=True)
        return match(name)

    monkeypatch.setattr(watch._matcher, "match", vanish)

    assert names(watch) == ["b.npy"]


@pytest.mark.parametrize("how", ["rename", "write", "link", "removed and made again"])
def test_events_ring_at_once(tmp_path, how: str) -> None:
    config = make_config(tmp_path, more={"scan": "1h"})
    source = config.sources["s"]
    watch = Watch(config.sources, 3600.0, observe=True, turn=threading.Lock())
    try:
        watch.look(unknown)
        (tmp_path / "new").write_bytes(b"x")
        if how == "rename":
            (tmp_path / "new").rename(source.drop / "a.npy")
        elif how == "write":
            touch(source, "a.npy")
        elif how == "link":
            (source.drop / "a.npy").hardlink_to(tmp_path / "new")
        else:
            source.drop.rename(tmp_path / "away")
            touch(source, "a.npy")
            watch.sources["s"].ring()  # what the next regular look would do

        def found() -> tuple[DropFile, ...]:
            watch.bell.wait(0.05)
            watch.look(unknown)
            return watch.next()

        (file,) = until(found, "the file was seen", seconds=10)
        assert file.name == "a.npy"
        touch(source, "b.npy")
        assert until(found, "events of the directory that is there now", seconds=10)
    finally:
        watch.close()


def test_an_overflow_of_watchdogs_queue_rings(tmp_path) -> None:
    watch = Watch(make_config(tmp_path).sources, 3600.0, observe=True, turn=threading.Lock())
    try:
        watch.look(unknown)
        assert watch.due_in() > 60

        logging.getLogger("watchdog.observers").warning("inotify queue overflow")

        assert watch.due_in() == 0.0
    finally:
        watch.close()


def test_where_no_events_are_to_be_had_the_directory_is_still_read(
    tmp_path, clock, caplog, monkeypatch
) -> None:
    source = make_source(tmp_path)
    touch(source, "a.npy")

    class Full:
        def schedule(self, *args: object, **kwargs: object) -> object:
            raise OSError(28, "inotify watch limit reached")

        def __getattr__(self, name: str) -> object:
            return lambda *args: None

    monkeypatch.setattr(events_module, "Observer", Full)
    watch = Watch({source.name: source}, 5.0, observe=True, turn=threading.Lock())
    watch.look(unknown)
    watch.close()

    assert waiting(watch.sources[source.name]) == ["a.npy"]
    assert "max_user_watches" in caplog.text


def test_walk_names_files_below_the_root(tmp_path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").touch()

    def walked(recursive: bool) -> list[tuple[str, str]]:
        return [(entry.path, name) for entry, name in walk(tmp_path, recursive)]

    assert walked(True) == [(str(tmp_path / "a/b/c"), "a/b/c")]
    assert walked(False) == [(str(tmp_path / "a"), "a")]
    assert watch_module.KNOWN_FILES_MAX > 1000


def test_each_file_is_counted_as_waiting_or_as_done_and_never_as_both(
    tmp_path, monkeypatch
) -> None:
    config = make_config(tmp_path)
    for number in range(20):
        np.save(config.sources["s"].drop / f"{number:02}.npy", np.arange(3) + number)
    release, settled, totals = Committer._release, decode_module.open_wait_seconds, []
    early = iter([0.01, 0.01])  # two files seem to have a writer, and are handed out again

    def counted(self: Committer, batch: Batch) -> None:
        # Committed, and not yet moved.
        totals.append(self._flow.waiting() + self._progress.done)
        release(self, batch)

    monkeypatch.setattr(Committer, "_release", counted)
    monkeypatch.setattr(
        decode_module, "open_wait_seconds", lambda *args: next(early, 0.0) or settled(*args)
    )

    take_all(config)

    assert totals[-1] == 20
    assert max(totals) == 20
