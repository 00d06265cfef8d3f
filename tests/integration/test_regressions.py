"""What once lost, doubled or stopped something, each with the least that shows it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import numpy as np
from helpers import ENVIRONMENT, INGESTD, run
from station import configure, names, once, put, save, taken

APPEND = "sources: {a: {drop: drop, output: o.h5, duplicates: append}}"


def test_a_file_that_comes_back_after_its_commit_is_not_taken_twice(tmp_path: Path) -> None:
    put(tmp_path / "drop/0.npy", 0)
    once(tmp_path, APPEND)

    (tmp_path / "done/a/0.npy").rename(tmp_path / "drop/0.npy")
    once(tmp_path)

    assert taken(tmp_path / "o.h5") == [0]
    assert names(tmp_path / "done/a") == ["0.npy"]


def test_files_of_any_date_are_taken(tmp_path: Path) -> None:
    put(tmp_path / "drop/0.npy", 0)
    put(tmp_path / "drop/1.npy", 1)
    subprocess.run(["touch", "-d", "2400-01-01", tmp_path / "drop/0.npy"], check=True)
    subprocess.run(["touch", "-d", "1901-12-31", tmp_path / "drop/1.npy"], check=True)

    once(tmp_path, APPEND)

    assert sorted(taken(tmp_path / "o.h5")) == [0, 1]


def test_directories_may_be_nested_deeper_than_python_calls(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    inside = os.open(tmp_path / "drop", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=inside)
        deeper = os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = deeper
    os.close(inside)
    put(tmp_path / "drop/0.npy", 0)

    once(tmp_path, "sources: {a: {drop: drop, output: o.h5, recursive: true}}")

    assert taken(tmp_path / "o.h5") == [0]
    subprocess.run(["rm", "-r", tmp_path / "drop"], check=True)


def test_two_sources_never_take_the_same_file(tmp_path: Path) -> None:
    text = "{drop: drop, output: o.h5, match: '%s', after: {move: %s}, quarantine: %s}"
    first, second = text % ("a*.npy", "d1", "f1"), text % ("*b.npy", "d2", "f2")
    for number, name in enumerate(("ab.npy", "a.npy", "b.npy")):
        put(tmp_path / f"drop/{name}", number)

    once(tmp_path, f"sources: {{one: {first}, two: {second}}}")

    assert sorted(taken(tmp_path / "o.h5")) == [0, 1, 2]
    assert names(tmp_path / "d1") == ["a.npy", "ab.npy"]


def test_once_shows_its_progress_on_a_terminal(tmp_path: Path) -> None:
    configure(tmp_path, APPEND)
    put(tmp_path / "drop/0.npy", 0)
    ours, theirs = pty.openpty()

    done = subprocess.Popen(
        [*INGESTD, "run", "--once", "-c", "x.yaml"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "TERM": "xterm"},
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:
        pass  # how the end of a terminal reads
    os.close(ours)

    assert done.wait(30) == 0
    assert b"1 file, 2 rows committed" in shown
    assert taken(tmp_path / "o.h5") == [0]


def test_verify_refuses_a_copy_that_was_cut_short(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"drop/{number}.npy", number, 3000)
    once(tmp_path, APPEND)
    output = (tmp_path / "o.h5").read_bytes()

    for part in (0.02, 0.5, 0.99):
        (tmp_path / "cut.h5").write_bytes(output[: int(len(output) * part)])
        assert "cut short" in run("verify", "cut.h5", cwd=tmp_path, code=1).stderr


def test_retry_takes_the_path_that_it_prints(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop/bad.npy").write_bytes(b"\x93NUMPY")
    once(tmp_path, APPEND, code=1)

    back = run("retry", "-c", "x.yaml", "--json", "failed/a/bad.npy", cwd=tmp_path)

    assert json.loads(back.stdout)["put_back"] == ["failed/a/bad.npy"]
    assert names(tmp_path / "drop") == ["bad.npy"]


def test_check_tells_of_a_sample_of_records(tmp_path: Path) -> None:
    configure(tmp_path, APPEND)
    save(tmp_path / "s.npy", np.zeros(3, [("a", "f4"), ("b", "i2", 2)]))

    said = run("check", "-c", "x.yaml", "--sample", "s.npy", cwd=tmp_path).stdout

    assert "3 rows" in said
