"""Whoever puts a file knows where its rows are, for ever; or that this is not known, and why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import ENVIRONMENT, INGESTD, run, until
from station import Station, configure, names, recorded_names, rows_of, save, taken

import ingestd
from ingestd.handin import NotDurable, Outcome, putting
from ingestd.lifecycle import State
from ingestd.model import RowRange

SIMPLE = "sources: {a: {drop: drop/a, output: data.h5}}\n"
SLOW = SIMPLE.replace("}}", ", settle: 'quiet:1h'}}")


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(number: int, name: str | None = None, rows: int = 2) -> Path:
    """A file with rows of its own, outside any drop directory."""
    path = Path(name or f"{number}.npy")
    save(path, rows_of(number, rows))
    return path


def put(*files: Path, **how: object) -> list[Outcome]:
    return ingestd.put(files, config="x.yaml", **{"timeout": 60, **how})


def spans(outcomes: list[Outcome]) -> list[RowRange]:
    return [rows for outcome in outcomes for _, rows, _ in outcome.placements]


def read(outcome: Outcome) -> list[np.ndarray]:
    """The rows that an outcome tells of, as any reader sees them."""
    with h5py.File(outcome.output, "r", swmr=True) as file:
        return [file[path][rows.start : rows.stop] for path, rows, _ in outcome.placements]


def test_put_returns_when_the_rows_are_there_and_the_original_stays() -> None:
    with Station(Path(), SIMPLE) as station:
        (first,) = put(made(1, rows=5))
        (second,) = ingestd.put("1.npy", "a", Path("x.yaml"), name="other.npy", timeout=60)
        (third,) = put(made(3))
        found = read(first), read(third)
        # Rows are durable before their file is moved, and the station kills.
        station.until_empty("drop/a")

    assert (first.state, first.output, first.name) == (State.COMMITTED, "data.h5", "1.npy")
    assert spans([first, third]) == [RowRange(0, 5), RowRange(5, 7)]
    assert np.array_equal(found[0][0], rows_of(1, 5)) and np.array_equal(found[1][0], rows_of(3))
    assert (second.state, second.reason) == (State.SKIPPED, "same content as 1.npy")
    assert spans([second]) == [RowRange(0, 5)]
    assert Path("1.npy").exists() and names(Path("drop/a")) == []


def test_fifty_files_come_back_in_order_each_with_its_own_rows() -> None:
    files = [made(number, f"n{number:02}.npy", rows=number + 1) for number in range(50)]

    with Station(Path(), SIMPLE):
        outcomes = put(*files)
        found = [read(outcome)[0] for outcome in outcomes]

    assert [outcome.file for outcome in outcomes] == files
    assert all(np.array_equal(rows, rows_of(n, n + 1)) for n, rows in enumerate(found))
    assert sorted(taken(Path("data.h5"))) == list(range(50))


def test_where_captures_name_the_output_it_is_told_with_each_file() -> None:
    runs = "sources: {a: {drop: drop/a, match: 'run{run:d}_*', output: 'data/{run:04d}.h5'}}\n"
    files = [made(1, name) for name in ("run1_a.npy", "run2_a.npy", "run2_b.npy")]
    files.append(made(2, "run2_c.npy"))

    with Station(Path(), runs):
        outcomes = put(*files)
        found = [read(outcome)[0] for outcome in outcomes]

    told = [
        (o.output, o.state.value, rows.start)
        for o, rows in zip(outcomes, spans(outcomes), strict=True)
    ]
    assert told == [
        ("data/0001.h5", "committed", 0),
        ("data/0002.h5", "committed", 0),
        ("data/0002.h5", "skipped", 0),
        ("data/0002.h5", "committed", 2),
    ]
    assert [int(rows[0, 0]) for rows in found] == [1, 1, 1, 2]


def test_put_prints_rows_for_people_and_as_json_and_ends_with_0() -> None:
    made(1)
    made(2, rows=1)
    shutil.copy("1.npy", "3.npy")

    with Station(Path(), SIMPLE):
        said = run("put", "-c", "x.yaml", "a", "1.npy", "2.npy", cwd=Path()).stdout
        as_json = run("put", "-c", "x.yaml", "--json", "a", "3.npy", cwd=Path()).stdout

    assert said == "1.npy: rows 0 to 1 of data.h5:/data\n2.npy: row 2 of data.h5:/data\n"
    answer = json.loads(as_json)
    assert len(answer["rows"][0].pop("rows_xxh3_128")) == 32
    assert answer == {
        "file": "3.npy",
        "name": "3.npy",
        "source": "a",
        "state": "skipped",
        "output": "data.h5",
        "rows": [{"dataset": "/data", "first_row": 0, "rows": 2}],
        "reason": "same content as 1.npy",
    }


def test_a_file_that_the_daemon_refuses_ends_with_1_and_harms_no_other() -> None:
    save(Path("bad.npy"), np.zeros((2, 9)))
    made(1)
    made(2)

    with Station(Path(), SIMPLE):
        done = run("put", "-c", "x.yaml", "a", "1.npy", "bad.npy", "2.npy", cwd=Path(), code=1)

    assert (
        done.stdout == "1.npy: rows 0 to 1 of data.h5:/data\n2.npy: rows 2 to 3 of data.h5:/data\n"
    )
    assert "bad.npy: quarantined: rows of float64 (9,); expected rows of int64 (2,)" in done.stderr
    assert "It lies in failed/a" in done.stderr
    assert Path("failed/a/bad.npy").exists() and Path("bad.npy").exists()


def test_a_damaged_file_ends_with_2_and_nothing_is_handed_in() -> None:
    made(1)
    Path("cut.npy").write_bytes(Path("1.npy").read_bytes()[:-1])

    with Station(Path(), SIMPLE):
        said = run("put", "-c", "x.yaml", "a", "1.npy", "cut.npy", cwd=Path(), code=2).stderr

    assert "cut.npy: would be quarantined: " in said and "nothing was handed in" in said
    assert names(Path("drop/a")) == names(Path("done/a")) == []


@pytest.mark.parametrize("duplicates", ["skip", "append", "quarantine"])
def test_the_same_file_put_again_after_any_failure_brings_no_row_twice(duplicates: str) -> None:
    with Station(Path(), SIMPLE.replace("}}", f", after: delete, duplicates: {duplicates}}}}}")):
        (first,) = put(made(1))
        (again,) = put(Path("1.npy"))

    assert again.durable and again.reason == "this very file was taken before"
    assert again.placements == first.placements
    assert taken(Path("data.h5")) == [1]


def test_where_duplicates_are_appended_a_touched_file_is_another_one() -> None:
    with Station(Path(), SIMPLE.replace("}}", ", duplicates: append}}")):
        put(made(1))
        os.utime("1.npy", ns=(5, 5))
        (again,) = put(Path("1.npy"))

    assert again.state is State.COMMITTED and spans([again]) == [RowRange(2, 4)]
    assert taken(Path("data.h5")) == [1, 1]


def test_without_a_daemon_it_ends_with_75_and_nothing_is_handed_in() -> None:
    configure(Path(), SIMPLE)
    made(1)

    never = run("put", "-c", "x.yaml", "a", "1.npy", cwd=Path(), code=75).stderr
    run("run", "--once", "-c", "x.yaml", cwd=Path())
    no_more = run("put", "-c", "x.yaml", "--json", "a", "1.npy", cwd=Path(), code=75)

    assert "no daemon runs: nobody holds" in never and "ingestd run" in never
    assert "not handed in: 1.npy" in no_more.stderr
    assert json.loads(no_more.stdout) == {"file": "1.npy", "state": "left"}
    assert names(Path("drop/a")) == []


def test_when_the_time_is_up_the_file_stays_and_is_taken_later() -> None:
    made(1)
    with Station(Path(), SLOW):
        done = run(
            *("put", "-c", "x.yaml", "--json", "--timeout", "0.2", "a", "1.npy"),
            cwd=Path(),
            code=75,
        )
        with pytest.raises(NotDurable) as error:
            put(Path("1.npy"), timeout=0)
        inside = names(Path("drop/a"))

    assert "the time is up" in done.stderr and "will be taken: 1.npy" in done.stderr
    assert json.loads(done.stdout) == {"file": "1.npy", "state": "waiting"}
    assert (error.value.waiting, error.value.left) == ((Path("1.npy"),), ())
    assert inside == ["1.npy"]


def test_a_daemon_killed_meanwhile_ends_it_with_75_and_the_next_call_finds_the_file_there() -> None:
    made(1)
    with Station(Path(), SLOW) as station:
        waiting = start_put("a", "1.npy")
        until(lambda: names(Path("drop/a")) == ["1.npy"], "handed in")
        station.kill()
        said = waiting.communicate(timeout=30)[1]
    lay_there = Path("drop/a/1.npy").stat().st_ino

    with Station(Path(), SIMPLE) as station:
        (outcome,) = put(Path("1.npy"))
        station.until_empty("drop/a")

    assert waiting.returncode == 75
    assert "no daemon runs" in said and "will be taken: 1.npy" in said
    assert outcome.durable and spans([outcome]) == [RowRange(0, 2)]
    assert taken(Path("data.h5")) == [1]
    assert Path("done/a/1.npy").stat().st_ino == lay_there


def test_ctrl_c_says_what_was_handed_in_and_ends_with_130() -> None:
    made(1)
    with Station(Path(), SLOW):
        waiting = start_put("a", "1.npy")
        until(lambda: names(Path("drop/a")) == ["1.npy"], "handed in")
        waiting.send_signal(signal.SIGINT)
        said = waiting.communicate(timeout=30)[1]

    assert waiting.returncode == 130
    assert said.startswith("ingestd: interrupted") and "will be taken: 1.npy" in said


def start_put(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*INGESTD, "put", "-c", "x.yaml", *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_put_told_of_survives_a_kill_at_once() -> None:
    told: list[Outcome] = []

    for number in range(3):
        with Station(Path(), SIMPLE) as station:
            told += put(made(number), made(number + 10))
            station.kill()
    with Station(Path()) as station:
        station.until(lambda: len(taken(Path("data.h5"))) == 6, "recovered")
        found = [read(outcome)[0] for outcome in told]

    assert [int(rows[0, 0]) for rows in found] == [0, 10, 1, 11, 2, 12]
    assert sorted(taken(Path("data.h5"))) == [0, 1, 2, 10, 11, 12]


def test_move_takes_the_file_itself_and_a_marker_follows_where_one_is_waited_for() -> None:
    inode = made(1).stat().st_ino
    with Station(Path(), SIMPLE.replace("}}", ", settle: 'marker:.ready'}}")) as station:
        (outcome,) = put(Path("1.npy"), move=True)
        station.until_empty("drop/a")

    assert outcome.state is State.COMMITTED
    assert not Path("1.npy").exists()
    assert Path("done/a/1.npy").stat().st_ino == inode


def test_a_file_put_from_its_drop_directory_is_waited_for_where_it_is() -> None:
    Path("drop/a").mkdir(parents=True)
    made(1, "drop/a/1.npy")

    with Station(Path(), SIMPLE.replace("}}", ", after: keep}}")):
        (moved,) = put(Path("drop/a/1.npy"), move=True)
        (again,) = put(Path("drop/a/../a/1.npy"), move=True)

    assert moved.durable and again.durable and spans([moved]) == spans([again])
    assert names(Path("drop/a")) == ["1.npy"] and taken(Path("data.h5")) == [1]


def test_a_name_may_hold_directories_where_the_source_reads_them() -> None:
    with Station(Path(), "scan: 200ms\n" + SIMPLE.replace("}}", ", recursive: true}}")):
        (outcome,) = put(made(1), name="run1/x/1.npy")

    assert outcome.name == "run1/x/1.npy"
    assert recorded_names(Path("data.h5")) == [b"run1/x/1.npy"]


def test_another_file_of_the_name_is_waited_for_and_never_replaced(monkeypatch) -> None:
    made(1, "same.npy")
    with Station(Path(), SIMPLE) as station:
        outcomes = []
        for number in range(10):
            outcomes += put(made(number, "same.npy"))
        station.until_empty("drop/a")

    assert spans(outcomes) == [RowRange(2 * n, 2 * n + 2) for n in range(10)]
    monkeypatch.setattr(putting, "NAME_SECONDS", 0.1)
    with Station(Path(), SLOW):
        with pytest.raises(NotDurable):
            put(made(20, "same.npy"), timeout=0)
        with pytest.raises(NotDurable, match="another file of this name waits there") as error:
            put(made(21, "same.npy"))
        waits = np.load("drop/a/same.npy")

    assert error.value.left == (Path("same.npy"),)
    assert np.array_equal(waits, rows_of(20))


def test_a_file_that_somebody_takes_away_is_not_waited_for() -> None:
    made(1)
    with Station(Path(), SLOW):
        waiting = start_put("a", "1.npy")
        until(lambda: names(Path("drop/a")) == ["1.npy"], "handed in")
        Path("drop/a/1.npy").unlink()
        said = waiting.communicate(timeout=30)[1]

    assert waiting.returncode == 75
    assert "drop/a/1.npy: was changed or taken away" in said and "not handed in: 1.npy" in said


def test_what_cannot_be_handed_in_keeps_none_from_being_told() -> None:
    with Station(Path(), SIMPLE.replace("}}", ", recursive: true}}")) as station:
        station.until(Path("drop/a").exists, "up")
        Path("drop/a/x").write_text("in the way of a directory")
        with pytest.raises(NotDurable, match="drop/a/x: Not a directory") as error:
            put(made(1), name="x/1.npy")
        (outcome,) = put(Path("1.npy"))

    assert error.value.left == (Path("1.npy"),)
    assert outcome.state is State.COMMITTED
