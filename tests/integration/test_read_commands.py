"""Readers of outputs whose writers live, die, start again and go back, each in a process."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from ingestd.tail import (
    Block,
    NoSuchDataset,
    Output,
    open_tail,
    reader,
    trace,
    verify,
)

WRITER = Path(__file__).with_name("live_writer.py")
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "60"}
DEADLINE_SECONDS = 30.0


class LiveWriter:
    """A writer in another process; `say` returns the committed rows when they can be seen."""

    def __init__(self, path: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, WRITER, path, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self.committed = self.answer()

    def say(self, command: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def writer_of() -> Iterator[Callable[..., LiveWriter]]:
    writers: list[LiveWriter] = []

    def start(path: Path, *options: str) -> LiveWriter:
        writers.append(LiveWriter(path, *options))
        return writers[-1]

    yield start
    for writer in writers:
        writer.kill()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each opening of an output by a follower."""
    paths: list[Path] = []

    def output(path: Path, patience_seconds: float) -> Output:
        opened = Output(path, patience_seconds)
        paths.append(path)
        return opened

    monkeypatch.setattr(reader, "Output", output)
    return paths


def command(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "ingestd", *words]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, env=ENVIRONMENT, timeout=DEADLINE_SECONDS
    )


def take(blocks: Iterator[Block], count: int) -> list[int]:
    """The next ``count`` rows, each checked; no more may have come with them."""
    rows: list[int] = []
    while len(rows) < count:
        block = next(blocks)
        expected = np.arange(block.start, block.stop)
        assert (block.rows == expected.reshape(-1, *(1,) * (block.rows.ndim - 1))).all()
        rows += expected.tolist()
    assert len(rows) == count
    return rows


def following_for_a_while(path: Path, dataset: str | None, start: int | str = 0):
    return open_tail(path, dataset, start, timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_follower_keeps_its_handle_while_the_writer_is_killed_and_cuts_back(
    tmp_path: Path, writer_of, opened: list[Path], compression: str
) -> None:
    path = tmp_path / "out.h5"
    writer = writer_of(path, "--compression", compression)
    blocks = following_for_a_while(path, "/data")

    writer.say("append 2 11")
    rows = take(blocks, 22)
    writer.say("rows 40")
    writer.kill()
    writer = writer_of(path, "--compression", compression)
    writer.say("append 3 5")
    rows += take(blocks, 15)
    writer.say("rows 7")
    writer.say("record")
    rows += take(blocks, 7)

    assert rows == list(range(44))
    assert len(opened) == 1


def test_follower_gives_no_row_twice_when_a_committed_file_is_taken_back_and_comes_again(
    tmp_path: Path, writer_of, opened: list[Path]
) -> None:
    path = tmp_path / "out.h5"
    writer = writer_of(path)
    blocks = following_for_a_while(path, "/data")

    writer.say("append 2 10")
    rows = take(blocks, 20)
    writer.say("cut 1")
    writer.say("append 2 10")
    rows += take(blocks, 10)

    assert rows == list(range(30))
    assert len(opened) == 1


def test_rows_read_while_a_writer_takes_them_back_are_not_handed_out(
    tmp_path: Path, writer_of
) -> None:
    path = tmp_path / "out.h5"
    writer = writer_of(path)
    writer.say("append 2 16")

    with open_tail(path, max_rows=16, timeout=0) as tail:
        first = next(tail)
        writer.say("cut 1")
        rest = list(tail)

    assert (first.start, first.stop) == (0, 16)
    assert rest == []


def test_reader_racing_a_writer_that_is_killed_again_and_again_sees_only_right_rows(
    tmp_path: Path, writer_of, opened: list[Path]
) -> None:
    path = tmp_path / "out.h5"
    blocks = following_for_a_while(path, "/data")
    rows: list[int] = []

    for kill in range(6):
        writer = writer_of(path, "--compression", ("none", "gzip")[kill % 2])
        aim = len(rows) + 300
        writer.process.stdin.write("forever\n")
        writer.process.stdin.flush()
        drain = threading.Thread(target=writer.process.stdout.read)
        drain.start()
        while len(rows) < aim:
            block = next(blocks)
            assert (block.rows == np.arange(block.start, block.stop)[:, None]).all()
            rows += range(block.start, block.stop)
        writer.process.kill()
        drain.join()
    report = verify(path)

    assert rows == list(range(len(rows)))
    assert len(opened) == 1
    assert report.ok
    assert report.rows["/data"] >= len(rows)


def test_follower_waits_for_a_file_and_for_a_dataset_that_are_not_there_yet(
    tmp_path: Path, writer_of
) -> None:
    path = tmp_path / "out.h5"
    blocks = following_for_a_while(path, "/late", "end")
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(take(blocks, 6)))

    thread.start()
    writer = writer_of(path)
    writer.say("append 1 4")
    writer.say("add /late")
    writer.kill()
    writer = writer_of(path, "--dataset", "/late")
    writer.say("append 2 3")
    thread.join(DEADLINE_SECONDS)

    assert got == list(range(6))


def test_follower_goes_on_in_a_copy_and_starts_over_in_another_file(
    tmp_path: Path, writer_of
) -> None:
    path, copy, other = tmp_path / "out.h5", tmp_path / "copy.h5", tmp_path / "other.h5"
    first = writer_of(path)
    blocks = following_for_a_while(path, None)
    first.say("append 1 4")
    rows = take(blocks, 4)
    first.kill()

    shutil.copy(path, copy)
    writer_of(copy).say("append 1 3")
    copy.rename(path)
    rows += take(blocks, 3)
    writer_of(other).say("append 1 2")
    other.rename(path)
    rows += take(blocks, 2)

    assert rows == [0, 1, 2, 3, 4, 5, 6, 0, 1]


def test_attached_reader_does_not_keep_a_writer_with_locks_from_starting(
    tmp_path: Path, writer_of
) -> None:
    path = tmp_path / "out.h5"
    writer = writer_of(path)
    writer.say("append 1 4")
    writer.process.communicate()  # a clean end

    with Output(path) as output:
        start = [sys.executable, "-c", f"import h5py; h5py.File({str(path)!r}, 'r+').close()"]
        started = subprocess.run(start, timeout=DEADLINE_SECONDS)
        end = output.committed("/data")

    assert started.returncode == 0
    assert end == 4


def test_reader_of_a_file_that_two_datasets_grow_in_must_say_which(
    tmp_path: Path, writer_of
) -> None:
    path = tmp_path / "out.h5"
    writer = writer_of(path)
    writer.say("add /more")

    failed = run("tail", "--once", path)

    with pytest.raises(NoSuchDataset):
        next(open_tail(path))
    assert failed.returncode == 2
    assert "/data, /more" in failed.stderr


def test_tail_once_prints_what_is_committed_of_a_file_whose_writer_died(
    tmp_path: Path, writer_of
) -> None:
    path = tmp_path / "out.h5"
    writer = writer_of(path)
    writer.say("append 2 3")
    writer.say("rows 5")
    writer.kill()

    printed, last = run("tail", "--once", "--json", path), run("tail", "--once", "--from=-1", path)

    rows = [json.loads(text) for text in printed.stdout.splitlines()]
    assert rows == [{"row": row, "values": [row] * 4} for row in range(6)]
    assert last.stdout == "        5  5 5 5 5\n"
    assert (printed.returncode, last.returncode, printed.stderr) == (0, 0, "")


def test_tail_follows_until_no_rows_come_for_the_timeout(tmp_path: Path, writer_of) -> None:
    path = tmp_path / "out.h5"
    words = command("tail", "--json", "--timeout", "1", f"{path}:/data")
    tail = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert b"waiting" in tail.stderr.readline()

    writer_of(path).say("append 2 3")
    printed, told = tail.communicate(timeout=DEADLINE_SECONDS)

    assert [json.loads(text)["row"] for text in printed.splitlines()] == list(range(6))
    assert (tail.returncode, told) == (0, b"")


def test_tail_ends_well_when_interrupted(tmp_path: Path, writer_of) -> None:
    path = tmp_path / "out.h5"
    writer_of(path).say("append 1 1")
    words = command("tail", "--from", "start", path)
    tail = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert tail.stdout.readline() == b"        0  0 0 0 0\n"

    tail.send_signal(signal.SIGINT)
    _, told = tail.communicate(timeout=DEADLINE_SECONDS)

    assert (tail.returncode, told) == (0, b"")


@pytest.mark.parametrize("files", [1, 2000])
def test_tail_ends_well_when_its_reader_has_seen_enough(
    tmp_path: Path, writer_of, files: int
) -> None:
    path = tmp_path / "out.h5"
    writer_of(path).say(f"append {files} 3")
    words = command("tail", "--json", "--from", "start", path)
    tail = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)

    with tail:
        tail.stdout.readline()
        tail.stdout.close()
        told = tail.stderr.read()

    assert (tail.returncode, told) == (0, b"")


def test_trace_prints_names_that_are_not_utf8_and_gives_them_back(
    tmp_path: Path, writer_of
) -> None:
    path = tmp_path / os.fsdecode(b"out \xfe.h5")
    writer_of(path).say("append 3 5")

    as_text, as_json = run("trace", path, "7"), run("trace", "--json", f"{path}:/data", "7")
    beyond = run("trace", path, "15")

    found = json.loads(as_json.stdout)
    assert r"run \xff\n1.npy" in as_text.stdout
    assert os.fsencode(found["file"]) == b"run \xff\n1.npy"
    assert (found["row_in_file"], found["first_row"], found["rows"]) == (2, 5, 5)
    assert found["file"] == trace(path, None, 7).file
    assert beyond.returncode == 1
    assert "It has 15 rows" in beyond.stderr


def test_verify_exits_with_1_and_names_the_rows_that_differ(tmp_path: Path, writer_of) -> None:
    path = tmp_path / "out.h5"
    writer = writer_of(path)
    writer.say("append 3 5")

    good = run("verify", path)
    writer.say("wrong")
    bad, as_json = run("verify", path), run("verify", "--json", path)

    assert (good.returncode, bad.returncode, as_json.returncode) == (0, 1, 1)
    assert "15 rows read back (files: 3)" in good.stdout
    assert r"rows 10 to 14 of run \xff\n2.npy" in bad.stderr
    problems = json.loads(as_json.stdout)["problems"]
    assert [(problem["first_row"], problem["rows"]) for problem in problems] == [(10, 5)]


def test_verify_shows_its_progress_on_a_terminal(tmp_path: Path, writer_of) -> None:
    path = tmp_path / "out.h5"
    writer_of(path).say("append 3 5")
    ours, theirs = pty.openpty()

    done = subprocess.run(
        command("verify", path),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**ENVIRONMENT, "TERM": "xterm"},
        timeout=DEADLINE_SECONDS,
    )
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)

    assert done.returncode == 0
    assert b"reading rows back" in shown


def test_commands_say_what_they_make_of_plain_hdf5_files(tmp_path: Path) -> None:
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["data"] = [1, 2, 3]

    runs = [run("tail", path), run("trace", path, "0"), run("verify", path)]

    assert [done.returncode for done in runs] == [1, 1, 1]
    assert all("no group /ingestd" in done.stderr for done in runs)


def test_follow_stops_when_told(tmp_path: Path) -> None:
    begun = time.monotonic()

    blocks = list(open_tail(tmp_path / "none.h5", stop=lambda: time.monotonic() - begun > 0.1))

    assert blocks == []
