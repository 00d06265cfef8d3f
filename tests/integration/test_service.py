"""The service keeps its word: how it starts, stops, reloads, reports, and when it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from helpers import run
from station import Station, configure, names, once, put, rows_of, save, taken

SIMPLE = "sources: {a: {drop: drop/a, output: data.h5}}\n"
OTHER_STATE = "state: other\nsources: {b: {drop: drop/b, output: data.h5}}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_stops_it_within_5_seconds_and_nothing_is_lost(
    number: signal.Signals, tmp_path: Path
) -> None:
    for n in range(9000):
        put(tmp_path / f"drop/a/{n}.npy", n, 2000)

    with Station(tmp_path, SIMPLE + "commit: {every: 10ms}") as station:
        station.until(lambda: len(names(tmp_path / "done/a")) > 20, "it is at work")
        station.process.send_signal(number)
        code = station.ended(seconds=5)
    left = names(tmp_path / "drop/a")
    stopped_with = taken(tmp_path / "data.h5")
    once(tmp_path)

    assert code == 0
    assert left, "it was through before it was stopped"
    assert len(stopped_with) + len(left) == 9000
    assert sorted(taken(tmp_path / "data.h5")) == list(range(9000))
    assert station.lines("Traceback") == []


def test_a_second_daemon_on_the_same_state_or_output_ends_with_75(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER_STATE)

    with Station(tmp_path, SIMPLE) as station:
        station.until(lambda: (tmp_path / "drop/a").exists(), "it is up")
        same = run("run", "-c", "x.yaml", cwd=tmp_path, code=75).stderr
        output = run("run", "-c", "other.yaml", cwd=tmp_path, code=75).stderr
        put(tmp_path / "drop/a/1.npy", 1)
        station.until_empty("drop/a")
        pid = str(station.process.pid)
        station.stop()
    run("run", "--once", "-c", "other.yaml", cwd=tmp_path)

    assert "another ingestd uses this state directory" in same and pid in same
    assert "another ingestd writes data.h5" in output and pid in output
    assert taken(tmp_path / "data.h5") == [1]


@pytest.mark.parametrize("command", ["run", "check", "status"])
def test_a_wrong_config_ends_with_78_and_says_every_mistake(command: str, tmp_path: Path) -> None:
    configure(tmp_path, "memory: lots\nsources:\n  a: {drop: d, output: o.h5, sttle: x, order: up}")

    said = run(command, "-c", "x.yaml", cwd=tmp_path, code=78).stderr

    assert "x.yaml:1:" in said
    assert said.count("x.yaml:3:") == 2
    assert names(tmp_path) == ["x.yaml"]


def test_sighup_takes_a_right_config_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    with Station(tmp_path, SIMPLE) as station:
        put(tmp_path / "drop/a/1.npy", 1)
        station.until_empty("drop/a")

        configure(tmp_path, SIMPLE.replace("}}", "}, b: {drop: drop/b, output: data.h5}}"))
        station.process.send_signal(signal.SIGHUP)
        station.until(lambda: station.lines("took the new config"), "the new config is taken")
        put(tmp_path / "drop/b/2.npy", 2)
        station.until_empty("drop/b")

        for wrong in ("nonsense: 1\n", SIMPLE.replace("a: ", "c: ") + "state: elsewhere\n"):
            before = len(station.lines("the old config stays in force"))
            configure(tmp_path, wrong)
            station.process.send_signal(signal.SIGHUP)
            station.until(
                lambda n=before: len(station.lines("the old config stays in force")) > n, "refused"
            )
        put(tmp_path / "drop/b/3.npy", 3)
        station.until_empty("drop/b")
        station.stop()

    assert taken(tmp_path / "data.h5") == [1, 2, 3]
    assert station.lines("nonsense") and station.lines("'state' cannot change")


def test_run_once_says_what_it_did_by_its_exit_code(tmp_path: Path) -> None:
    nothing = once(tmp_path, SIMPLE)
    put(tmp_path / "drop/a/1.npy", 1)
    good = once(tmp_path)
    (tmp_path / "drop/a/2.npy").write_bytes(b"")
    bad = once(tmp_path, code=1)

    assert "0 files, 0 rows committed in 0." in nothing
    assert " s; 0 skipped, 0 quarantined" in nothing
    assert "1 file, 2 rows committed" in good
    assert "1 quarantined" in bad


def test_run_once_leaves_files_that_cannot_be_moved_and_says_so_with_75(tmp_path: Path) -> None:
    put(tmp_path / "drop/a/1.npy", 1)
    (tmp_path / "done").write_text("in the way of the directory")

    log = once(tmp_path, SIMPLE, code=75)
    (tmp_path / "done").unlink()
    once(tmp_path)

    assert "cannot be moved" in log
    assert taken(tmp_path / "data.h5") == [1]
    assert names(tmp_path / "done/a") == ["1.npy"]


def test_status_tells_of_each_source(tmp_path: Path) -> None:
    def status(*words: str) -> str:
        return run("status", "-c", "x.yaml", *words, cwd=tmp_path).stdout

    configure(tmp_path, SIMPLE)
    before = json.loads(status("--json"))
    for number in (1, 2):
        put(tmp_path / f"drop/a/{number}.npy", number)
    shutil.copy(tmp_path / "drop/a/1.npy", tmp_path / "drop/a/9.npy")
    (tmp_path / "drop/a/3.npy").write_bytes(b"")
    once(tmp_path, code=1)
    put(tmp_path / "drop/a/4.npy", 4)
    source = json.loads(status("--json"))["sources"][0]

    assert before["running"] is False
    assert before["sources"][0]["problem"] == "drop/a: No such file or directory"
    assert (source["waiting"], source["files"], source["rows"]) == (1, 2, 4)
    assert (source["skipped"], source["failures"], source["newest_file"]) == (1, 1, "2.npy")
    assert source["rows_per_second"] > 0
    assert 0 <= source["oldest_waiting_seconds"] < 60
    assert "not running" in status()
    assert "failed/a/*.reason.json" in status()


def test_check_tells_what_a_sample_would_become_and_writes_nothing(tmp_path: Path) -> None:
    configure(tmp_path, SIMPLE)
    save(tmp_path / "good.npy", rows_of(1, 7))
    (tmp_path / "bad.npy").write_bytes(b"")

    right = run("check", "-c", "x.yaml", cwd=tmp_path).stdout
    listed = json.loads(run("check", "-c", "x.yaml", "--json", cwd=tmp_path).stdout)
    sample = json.loads(
        run("check", "-c", "x.yaml", "--sample", "good.npy", "--json", cwd=tmp_path).stdout
    )
    bad = run("check", "-c", "x.yaml", "--sample", "bad.npy", cwd=tmp_path, code=1).stderr

    assert "a: drop/a/ -> data.h5:/data" in right
    assert listed == {"config": "x.yaml", "sources": ["a"]}
    target = sample["datasets"][0]
    assert (sample["source"], target["dataset"], target["rows"]) == ("a", "/data", 7)
    assert (target["dtype"], target["row_shape"]) == ("int64", [2])
    assert "would be quarantined" in bad
    assert names(tmp_path) == ["bad.npy", "good.npy", "x.yaml"]


def test_check_compares_a_sample_with_the_output(tmp_path: Path) -> None:
    put(tmp_path / "drop/a/1.npy", 1)
    once(tmp_path, SIMPLE)
    save(tmp_path / "other.npy", np.zeros((3, 5)))

    said = run("check", "-c", "x.yaml", "--sample", "other.npy", cwd=tmp_path, code=1).stderr

    assert "float64 (5,)" in said and "int64 (2,)" in said


def test_systemd_is_told_when_it_is_up_alive_and_stopping(tmp_path: Path) -> None:
    address = f"@ingestd-test-{tmp_path.parent.name}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + address[1:])
        systemd.settimeout(20)

        def told(word: str) -> None:
            while not systemd.recv(4096).decode().startswith(word):
                pass

        with Station(tmp_path, SIMPLE, environment={"NOTIFY_SOCKET": address}) as station:
            told("READY=1")
            put(tmp_path / "drop/a/1.npy", 1)
            station.until_empty("drop/a")
            for _ in range(3):
                told("WATCHDOG=1")
            station.process.send_signal(signal.SIGTERM)
            told("STOPPING=1")
            assert station.ended() == 0


def test_an_output_removed_under_the_daemon_ends_it_with_a_remedy_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    output, away = tmp_path / "data.h5", tmp_path / "away.h5"
    with Station(tmp_path, SIMPLE) as station:
        put(tmp_path / "drop/a/1.npy", 1)
        station.until_empty("drop/a")
        output.rename(away)
        put(tmp_path / "drop/a/2.npy", 2)
        code = station.ended()
    again = once(tmp_path, code=1)
    away.rename(output)
    once(tmp_path)

    assert code == 1
    assert station.lines("removed or replaced", "Put the file back")
    assert station.lines("Traceback") == []
    assert "the output is gone" in again and "Put it back" in again
    assert taken(output) == [1, 2]


def test_a_lost_state_is_rebuilt_from_the_outputs_and_nothing_is_doubled(tmp_path: Path) -> None:
    config = SIMPLE.replace("}}", ", after: keep}, p: {drop: drop/p, output: data.h5,"
                            " datasets: {/x: {}, /y: {}}}}")  # fmt: skip
    for number in (1, 2):
        put(tmp_path / f"drop/a/{number}.npy", number)
        (tmp_path / "drop/p").mkdir(exist_ok=True)
        np.savez(tmp_path / f"drop/p/{number}.npz", x=rows_of(number), y=rows_of(number, number))
    once(tmp_path, config)
    shutil.rmtree(tmp_path / "state")

    once(tmp_path)
    put(tmp_path / "drop/a/3.npy", 3)
    once(tmp_path)

    output = tmp_path / "data.h5"
    assert taken(output) == [1, 2, 3]
    assert taken(output, "/x") == taken(output, "/y") == [1, 2]
    with sqlite3.connect(tmp_path / "state/ledger.sqlite") as ledger:
        count = ledger.execute("SELECT count(*) FROM files WHERE state = 'committed'").fetchone()
    assert count == (5,)
    run("verify", "data.h5", cwd=tmp_path)
