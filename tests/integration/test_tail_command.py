"""``ingestd tail`` for people, pipes and programs. Each row once, whatever it is turned into."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import ENVIRONMENT, SECONDS, until

from ingestd.cli.values import columns
from tests.outputs import make_output

TAIL = [sys.executable, "-m", "ingestd", "tail"]


def tail(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [*TAIL, *words], capture_output=True, env=ENVIRONMENT, timeout=SECONDS, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def on_terminal(*words: str | Path, code: int = 0) -> str:
    """What a command shows on a terminal of 80 columns."""
    master, slave = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [*TAIL, *words], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(master, 1 << 16):
            shown += piece
    except OSError:
        pass  # a terminal whose other end is closed
    os.close(master)
    assert process.wait(SECONDS) == code, shown
    return shown.decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Rows [r, r] of three files: 2, 3 and 1."""
    return make_output(tmp_path / "o.h5", [2, 3, 1])


def with_rows(path: Path, rows: np.ndarray) -> Path:
    """The same output with other rows."""
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_dataset(
            "data", data=rows, maxshape=(None, *rows.shape[1:]), chunks=(4, *rows.shape[1:])
        )
    return path


def test_csv_has_a_header_and_a_line_for_each_row(path: Path) -> None:
    lines = tail("--once", "--format", "csv", path).stdout.decode().splitlines()

    assert lines[:3] == ["row,0,1", "0,0,0", "1,1,1"]
    assert len(lines) == 7


@pytest.mark.parametrize("dtype", ["f4", "f8", "u8", "i1", "c16"])
def test_csv_reads_back_to_the_same_values(path: Path, dtype: str) -> None:
    rows = (np.arange(6) * np.pi).astype(dtype)
    with_rows(path, rows)

    lines = tail("--once", "--format", "csv", path).stdout.decode().splitlines()

    kind: Any = complex if dtype == "c16" else float if dtype[0] == "f" else int
    back = np.array([kind(line[1]) for line in csv.reader(lines[1:])], dtype)
    assert lines[0] == "row,value"
    assert np.array_equal(back, rows)


def test_columns_are_called_by_field_and_index() -> None:
    inner = np.dtype([("x", "f4"), ("name", "S3")])
    rows = np.zeros(2, [("a", "i4", (2,)), ("b", inner)])
    rows["b"]["name"] = b"\xff"

    names, texts = columns(rows)

    assert names == ["a_0", "a_1", "b.x", "b.name"]
    assert texts[3].tolist() == ["\\xff"] * 2


def test_npy_streams_are_read_by_load_in_a_loop_and_from_a_pipe(path: Path) -> None:
    stream = tail("--once", "--format", "npy", "--max-rows", "4", path).stdout

    file, loaded = io.BytesIO(stream), []
    while file.tell() < len(stream):
        loaded.append(np.load(file))
    pipe: Any = SimpleNamespace(read=io.BytesIO(stream).read)
    first = np.lib.format.read_array(pipe)

    assert [len(rows) for rows in loaded] == [4, 2]
    assert np.concatenate(loaded)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(first, loaded[0])


def test_stats_are_one_line_for_each_block(path: Path) -> None:
    out = tail("--once", "--stats", "--max-rows", "3", path).stdout.decode().splitlines()

    assert [line.split("  mean")[0] for line in out] == [
        "rows 0-1  files 1  min 0  max 1",
        "rows 2-4  files 1  min 2  max 4",
        "rows 5-5  files 1  min 5  max 5",
    ]
    assert "rows/s" in out[0]


def test_exec_gets_rows_and_where_they_are_from(path: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import io, os, sys, json, numpy as np\n"
        "rows = np.load(io.BytesIO(sys.stdin.buffer.read()))\n"
        "names = ('START', 'STOP', 'DATASET', 'FILES')\n"
        "print(json.dumps([*(os.environ[name] for name in names), rows[:, 0].tolist()]))\n"
    )

    out = tail("--once", "--max-rows", "3", "--exec", f"{sys.executable} {program}", path).stdout

    assert [json.loads(line) for line in out.splitlines()] == [
        ["0", "2", "/data", "0.npy", [0, 1]],
        ["2", "5", "/data", "1.npy", [2, 3, 4]],
        ["5", "6", "/data", "2.npy", [5]],
    ]


def test_a_command_that_fails_ends_us_with_its_code_unless_told_otherwise(path: Path) -> None:
    program = "echo $START; test $START != 2 || exit 7"

    stopped = tail("--once", "--max-rows", "3", "--exec", program, path, code=7)
    went_on = tail("--once", "--max-rows", "3", "--exec", program, "--keep-going", path)
    killed = tail("--once", "--exec", "kill -9 $$", path, code=137)

    assert stopped.stdout == b"0\n2\n"
    assert b"ended with 7 on rows 2 to 4" in stopped.stderr
    assert went_on.stdout == b"0\n2\n5\n"
    assert b"ended with 137" in killed.stderr


def test_a_terminal_gets_columns_with_the_files_names(path: Path) -> None:
    lines = on_terminal("--once", path).replace("\x1b[1m", "").replace("\x1b[0m", "").split("\r\n")

    assert lines[0].split() == ["row", "file", "2", "<i4"]
    assert lines[3].split() == ["2", "1.npy", "2", "2"]


@pytest.mark.parametrize("row_shape", [(), (50,), (30, 40), (2, 3, 4)])
def test_plot_draws_rows_of_any_shape(path: Path, row_shape: tuple[int, ...]) -> None:
    rows = np.random.default_rng(1).random((6, *row_shape))
    rows.reshape(-1)[-1] = np.nan
    with_rows(path, rows)

    shown = on_terminal("--once", "--plot", path)

    assert "row 5" in shown
    assert "▀" in shown or "█" in shown


def test_plot_without_a_terminal_and_two_ways_to_print_are_refused(path: Path) -> None:
    assert b"--plot draws in a terminal" in tail("--plot", path, code=2).stderr
    assert b"give one of" in tail("--stats", "--json", path, code=2).stderr


@pytest.mark.parametrize("how", ["csv", "npy", "exec", "plot"])
def test_an_interrupt_is_a_good_end(path: Path, how: str) -> None:
    words = {"exec": ["--exec", "echo $STOP"], "csv": ["--format", "csv"]}
    words |= {"npy": ["--format", "npy"], "plot": ["--plot"]}
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*TAIL, "--from", "start", *words[how], path], stdout=slave, stderr=slave, env=ENVIRONMENT
    )
    os.close(slave)

    assert os.read(master, 1 << 16)
    process.send_signal(signal.SIGINT)

    until(lambda: process.poll() is not None, "it ends")
    os.close(master)
    assert process.returncode == 0
