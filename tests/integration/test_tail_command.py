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
from rich.console import Console

from ingestd import layout
from ingestd.cli.picture import picture, pictures
from ingestd.cli.printing import print_blocks
from ingestd.cli.values import columns
from ingestd.model import RowRange
from ingestd.tail import Block, Files, Position
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

    # No rate: these rows were there before.
    assert out == [
        "rows 0-1  files 1  min 0  max 1  mean 0.5",
        "rows 2-4  files 1  min 2  max 4  mean 3",
        "rows 5-5  files 1  min 5  max 5  mean 5",
    ]


def test_stats_of_rows_that_come_tell_how_fast(capsys: pytest.CaptureFixture[str]) -> None:
    records = np.zeros(1, layout.RECORD)
    records["committed_ns"] = 2**62
    position = Position.start_of(("/data",))
    block = Block(np.arange(3.0), {"/data": RowRange(0, 3)}, Files(records), position)

    print_blocks(iter([block]), "stats", lambda _: {})

    assert "rows/s" in capsys.readouterr().out


def test_stats_and_pictures_are_given_by_field(path: Path) -> None:
    rows = np.zeros(6, [("x", "f4"), ("name", "S3"), ("pos", "i2", (30,))])
    rows["x"] = np.arange(6)
    with_rows(path, rows)

    stats = tail("--once", "--stats", path).stdout.decode()
    picture = on_terminal("--once", "--plot", path)

    assert "x  min 0  max 5  mean 2.5  |  pos  min 0  max 0  mean 0\n" in stats
    assert "row 5  x  6  0 to 5" in picture
    assert "row 5  pos  30  0 to 0" in picture


def test_fields_for_which_there_is_no_room_are_named() -> None:
    fields = {f"f{n}": np.arange(20.0) for n in range(9)}
    console = Console(width=80, height=24, record=True, file=io.StringIO())

    console.print(pictures(fields, 3, 80, 24))

    text = console.export_text()
    assert len(text.splitlines()) <= 24
    assert "row 3  f3" in text
    assert "not drawn: f4, f5, f6, f7, f8" in text


def test_a_picture_in_colours_is_drawn_as_a_picture() -> None:
    frame = np.zeros((30, 40, 3), np.uint8)
    frame[10:20, :, 1] = 30
    console = Console(width=80, height=24, record=True, file=io.StringIO())

    console.print(picture(frame, 7, 80, 20))

    lines = console.export_text().splitlines()
    assert lines[0].strip() == "row 7  30x40x3  mean of the colours  0 to 10"
    assert lines[1] == "▀" * 40
    assert len([line for line in lines if "▀" in line]) == 15


def test_a_plot_shows_at_once_what_is_newest(path: Path) -> None:
    assert "row 5" in on_terminal("--timeout", "0", "--plot", path)


TIMES = ["2026-01-02T03:04:05.000000006", "NaT"]


def test_times_are_iso_8601_in_texts_and_integers_in_npy(path: Path) -> None:
    times = np.array([*TIMES * 3], "M8[ns]").astype("i8")
    with_rows(path, times)
    with h5py.File(path, "a") as file:
        file["data"].attrs["units"] = "datetime64[ns]"

    csv_lines, json_lines, table = (
        tail("--once", "--format", form, path).stdout.decode().splitlines()
        for form in ("csv", "jsonl", "table")
    )
    npy = tail("--once", "--format", "npy", path)

    assert csv_lines[1:3] == [f"0,{TIMES[0]}", "1,NaT"]
    assert json.loads(json_lines[0])["values"] == TIMES[0]
    assert table[0].split() == ["0", TIMES[0]]
    assert np.array_equal(np.load(io.BytesIO(npy.stdout)), times)


def test_times_among_fields_are_shown_and_warn_of_nothing(path: Path) -> None:
    flags = h5py.enum_dtype({"OFF": 0, "ON": 1}, "u1")
    rows = np.zeros(6, [("at", "i8", (2,)), ("in", [("t", "i8")]), ("on", flags)])
    with_rows(path, rows)
    with h5py.File(path, "a") as file:
        file["data"].attrs.update({"at.units": "datetime64[s]", "in.t.units": "datetime64[D]"})

    line = tail("--once", "--json", path).stdout.splitlines()[0]
    npy = tail("--once", "--format", "npy", path)
    program = tail("--once", "--exec", "cat", path)

    assert json.loads(line)["values"] == {
        "at": ["1970-01-01T00:00:00"] * 2,
        "in": {"t": "1970-01-01"},
        "on": 0,
    }
    assert npy.stderr == program.stderr == b""
    assert np.load(io.BytesIO(npy.stdout)).dtype.names == ("at", "in", "on")


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
    assert b"give only one of" in tail("--stats", "--json", path, code=2).stderr


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
