"""The ledger or the output is gone or behind: what the other one knows is kept, or it is said."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import h5py
import pytest
from daemon import CONFIG, World
from helpers import INGESTD, Daemon, run

from ingestd import layout

LEDGER = "ingestd.ledger:Ledger"

FULL_DISK = ("sh", "-c", 'ulimit -f 4000 && exec "$@"', "sh", *INGESTD)
"""Files beyond some 2 MB cannot grow, which stands in for a full disk."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world in which some files were taken."""
    world = World(tmp_path)
    world.drop_some()
    world.run_once()
    return world


def lose_ledger(world: World) -> None:
    for path in (world.root / "state").glob("ledger*"):
        path.unlink()


@pytest.mark.parametrize(
    "step",
    [
        f"{LEDGER}.adopt:after:1",
        "ingestd.ledger:_insert:before:2",
        "ingestd.ledger:_insert:after:3",
        "ingestd.pipeline.recover:_adopt:after:1",
        "ingestd.pipeline.recover:_reconcile:before:1",
    ],
)
def test_killed_while_a_lost_ledger_is_rebuilt_keeps_all_rows(step: str, world: World) -> None:
    lose_ledger(world)

    world.run_killed(step)
    world.drop_some()
    world.run_once()

    world.assert_all_done()


@pytest.mark.parametrize(
    "step",
    [
        "ingestd.pipeline.records:append_records:before:1",
        "ingestd.sinks.hdf5:Hdf5Sink.append:after:3",
        f"{LEDGER}.commit:before:1",
        f"{LEDGER}.commit:after:1",
        "ingestd.pipeline.archive:release:after:1",
    ],
)
def test_ledger_lost_after_a_crash_loses_and_doubles_no_row(step: str, world: World) -> None:
    world.drop_some()
    world.run_killed(step)
    lose_ledger(world)

    world.run_once()

    world.assert_all_done()


@pytest.mark.parametrize("duplicates", ["append", "quarantine"])
def test_ledger_lost_where_files_may_repeat_takes_no_file_twice(
    duplicates: str, tmp_path: Path
) -> None:
    output = "output: data/out.h5"
    config = CONFIG.replace(output, f"duplicates: {duplicates}\n    {output}")
    world = World(tmp_path, config)
    world.drop_lone()
    world.drop_pair()
    world.run_killed(f"{LEDGER}.commit:after:1")
    lose_ledger(world)

    world.drop_lone()
    world.run_once()

    world.assert_all_done()


def test_ledger_lost_between_the_records_of_two_datasets_keeps_them_in_lockstep(
    world: World,
) -> None:
    world.drop_pair()
    world.run_killed("ingestd.ledger:Ledger.commit:before:1")
    run("repair", "data/out.h5", cwd=world.root)
    with h5py.File(world.output, "r+") as file:
        records = file[layout.records_path("/pairs/y")]
        records.resize(len(records) - 1, axis=0)
    lose_ledger(world)

    world.run_once()

    world.assert_all_done()


def test_ledger_that_power_loss_set_back_takes_the_files_again(world: World) -> None:
    before = world.root / "before"
    shutil.copytree(world.root / "state", before)
    world.drop_some()
    world.run_killed("ingestd.pipeline.archive:release:before:1")
    shutil.rmtree(world.root / "state")
    before.rename(world.root / "state")

    world.run_once()

    world.assert_all_done()


def test_pending_rows_that_power_loss_took_are_taken_from_the_files_again(world: World) -> None:
    world.drop_some()
    world.run_killed("ingestd.pipeline.records:append_records:before:1")
    run("repair", "data/out.h5", cwd=world.root)
    with h5py.File(world.output, "r+") as file:
        dataset = file["/pairs/X"]
        dataset[-1:] = 0

    world.run_killed(f"{LEDGER}.withdraw:before:1")
    world.run_killed(f"{LEDGER}.withdraw:after:1")
    world.run_once()

    world.assert_all_done()


def test_output_that_is_gone_is_refused_and_nothing_happens_to_the_drop_files(
    world: World,
) -> None:
    world.drop_lone()
    waiting = world.names("drop", "lone")
    away = world.root / "away.h5"
    world.output.rename(away)

    refused = run("run", "--once", "-c", "x.yaml", cwd=world.root, code=1)
    there = world.names("drop", "lone")
    away.rename(world.output)
    world.run_once()

    assert "the output is gone" in refused.stderr
    assert there == waiting
    world.assert_all_done()


def test_output_lost_before_anything_in_it_was_committed_is_made_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.drop_some()
    world.run_killed("ingestd.pipeline.records:append_records:before:1")
    world.output.unlink()

    world.run_killed(f"{LEDGER}.withdraw:before:1")
    world.run_once()

    world.assert_all_done()


def test_ledger_gone_bad_is_named_with_what_to_do(world: World) -> None:
    with closing(sqlite3.connect(world.root / "state/ledger.sqlite")) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = world.root / "state/ledger.sqlite"
    path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:])

    refused = run("run", "--once", "-c", "x.yaml", cwd=world.root, code=1)

    assert "rebuilt from the outputs" in refused.stderr


def test_killed_while_it_waits_for_a_full_disk_loses_and_doubles_no_row(world: World) -> None:
    world.drop_some()
    world.drop_lone(100_000)
    world.drop_pair(100_000)

    for waits in (1, 2, 3):
        with Daemon(world.root, command=FULL_DISK) as daemon:
            daemon.until(
                lambda waits=waits: daemon.log.read_text().count("nothing is lost") == waits,
                "it waits for room",
            )
            daemon.kill()
        world.drop_lone()
    world.run_once()

    world.assert_all_done()


def test_output_deleted_under_the_running_daemon_is_said_and_no_file_is_let_go(
    world: World,
) -> None:
    away = world.root / "away.h5"
    with Daemon(world.root) as daemon:
        world.drop_lone()
        daemon.until(lambda: not world.names("drop", "lone"), "nothing waits")
        world.output.rename(away)
        world.drop_lone()
        world.drop_pair()
        code = daemon.process.wait(30)
    waiting = world.names("drop", "lone") + world.names("drop", "pairs")
    away.rename(world.output)
    world.run_once()

    assert code == 1
    assert "removed or replaced" in daemon.log.read_text() or "is gone" in daemon.log.read_text()
    assert len(waiting) >= 1
    world.assert_all_done()
