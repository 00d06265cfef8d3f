"""Killed at any step of the commit, or of recovery, the daemon loses and doubles nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from daemon import World

SINK = "ingestd.sinks.hdf5:Hdf5Sink"
EDIT = "ingestd.sinks.hdf5_edit"
LEDGER = "ingestd.ledger:Ledger"
ARCHIVE = "ingestd.pipeline.archive"
WRITER = "ingestd.pipeline.write:Writer"
RECOVER = "ingestd.pipeline.recover"


def both(step: str, *calls: int) -> list[str]:
    """Before and after each of the ``calls``."""
    return [f"{step}:{when}:{n}" for n in calls for when in ("before", "after")]


FIRST_RUN = [
    *both(f"{SINK}._make", 1),
    *both("pathlib:Path.rename", 1),  # of the new output, from its temporary name
    *both(f"{SINK}._open", 1, 2),
    *both(f"{SINK}.ensure", 1, 2),
    *both(f"{EDIT}:_write_journal", 1),
    *both("pathlib:Path.rename", 2),  # of the journal
    *both(f"{EDIT}:replay", 1),
    *both(f"{EDIT}:_pwrite", 1, 2, 3),
    *both("pathlib:Path.unlink", 1),  # of the journal
    *both(f"{LEDGER}.intend", 1),
]
"""The output is made, then gets another dataset."""

LATER_RUN = [
    *both(f"{SINK}.append", 1, 3, 6),
    *both(f"{SINK}.flush", 1, 2, 3, 4),
    *both(f"{WRITER}.publish", 1),
    *both(f"{LEDGER}.intend", 1, 2),
    *both("ingestd.pipeline.records:append_records", 1, 2),
    *both("ingestd.pipeline.records:append_keys", 1, 2),
    *both("os:fsync", 1),
    *both(f"{LEDGER}.commit", 1, 2),
    *both(f"{ARCHIVE}:release", 1, 3),
    *both("pathlib:Path.rename", 1, 2),
    *both(f"{LEDGER}.release", 1, 2),
    *both(f"{LEDGER}.settle", 1, 2),
    *both(f"{ARCHIVE}:quarantine", 1),
    *both("pathlib:Path.write_text", 1),
    *both(f"{SINK}.close", 1),
]
"""Files come to an output that is there."""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which some files were taken before."""
    world = World(tmp_path_factory.mktemp("grown"))
    world.drop_some()
    world.run_once()
    world.assert_all_done()
    return world


@pytest.fixture
def world(grown: World, tmp_path: Path) -> World:
    """A copy of ``grown`` with more files waiting."""
    shutil.copytree(grown.root, tmp_path / "world")
    world = World(tmp_path / "world", grown.config, numbers=grown.numbers)
    for mine, its in ((world.good, grown.good), (world.again, grown.again), (world.bad, grown.bad)):
        mine.update({source: list(names) for source, names in its.items()})
    world.drop_some()
    return world


@pytest.mark.parametrize("step", FIRST_RUN)
def test_killed_while_an_output_is_made(step: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.drop_some()

    world.run_killed(step)
    world.drop_pair()
    world.run_once()

    world.assert_all_done()


@pytest.mark.parametrize("step", LATER_RUN)
def test_killed_at_a_step_of_the_commit(step: str, world: World) -> None:
    world.run_killed(step)
    world.drop_lone()
    world.run_once()

    world.assert_all_done()


MANY_FILES = [
    *both("ingestd.pipeline.hands:Hands.read", 1),
    *both(f"{WRITER}._append_bundle", 1),
    *both(f"{LEDGER}.commit", 1),
    *both("ingestd.pipeline.hands:Hands.move", 1),
    *both(f"{LEDGER}.release", 1),
]
"""Many small files, which another process reads and moves."""


@pytest.mark.parametrize("step", MANY_FILES)
def test_killed_among_many_files(step: str, world: World) -> None:
    for _ in range(60):
        world.drop_lone()

    world.run_killed(step)
    world.drop_lone()
    world.run_once()

    world.assert_all_done()


def test_another_process_that_is_killed_loses_no_file(world: World) -> None:
    for _ in range(60):
        world.drop_lone()

    world.run_with_deadly_hands()

    world.assert_all_done()


MAKING = "pathlib:Path.rename:before:1"
CHANGING = f"{EDIT}:replay:before:1"
ROWS_ONLY = f"{LEDGER}.intend:before:2"
PENDING = "ingestd.pipeline.records:append_records:before:2"
RECORDED = f"{LEDGER}.commit:before:2"
COMMITTED = f"{LEDGER}.commit:after:2"
QUARANTINED = f"{LEDGER}.settle:after:1"

RECOVERY = [
    *((MAKING, step) for step in both("ingestd.sinks.hdf5_recover:remove_leftovers", 1)),
    *((CHANGING, step) for step in both(f"{EDIT}:replay", 1)),
    *((CHANGING, step) for step in both(f"{EDIT}:_pwrite", 1, 2)),
    *((CHANGING, step) for step in both("pathlib:Path.unlink", 1)),
    *((ROWS_ONLY, step) for step in both("ingestd.repair:repair", 1)),
    *((ROWS_ONLY, step) for step in both("pathlib:Path.rename", 1)),  # of the repair's copy
    *((ROWS_ONLY, step) for step in both("os:pwrite", 3)),  # the repair's, after those of locks
    *((ROWS_ONLY, step) for step in both("ingestd.sinks.hdf5_recover:Held.__init__", 1)),
    *((ROWS_ONLY, step) for step in both(f"{SINK}.cut", 1)),
    *((ROWS_ONLY, step) for step in both(f"{EDIT}:_write_journal", 1)),
    *((ROWS_ONLY, step) for step in both(f"{EDIT}:replay", 2)),  # the first finds no journal
    *((ROWS_ONLY, step) for step in both(f"{EDIT}:_pwrite", 1, 2, 3)),
    *((ROWS_ONLY, step) for step in both("pathlib:Path.unlink", 1)),
    *((PENDING, step) for step in both("ingestd.sinks.hdf5_recover:Held.intact", 1)),
    *((PENDING, step) for step in both(f"{RECOVER}:_reconcile", 1)),
    *((PENDING, step) for step in both(f"{RECOVER}:_finish", 1)),
    *((PENDING, step) for step in both("ingestd.pipeline.records:append_records", 1)),
    *((PENDING, step) for step in both(f"{SINK}.append", 1)),
    *((PENDING, step) for step in both(f"{SINK}.flush", 1)),
    *((RECORDED, step) for step in both(f"{LEDGER}.commit", 1)),
    *((COMMITTED, step) for step in both(f"{RECOVER}:settle", 1)),
    *((COMMITTED, step) for step in both(f"{ARCHIVE}:release", 1)),
    *((COMMITTED, step) for step in both(f"{LEDGER}.release", 1)),
    *((QUARANTINED, step) for step in both(f"{ARCHIVE}:quarantine", 1)),
    *((QUARANTINED, step) for step in both("pathlib:Path.write_text", 1)),
]
"""Where the daemon is killed first, and where recovery from that is."""

AGAIN_AND_AGAIN = [
    (ROWS_ONLY, f"{SINK}.cut:before:1", f"{EDIT}:_pwrite:after:1", f"{EDIT}:_pwrite:before:2"),
    (PENDING, f"{SINK}.append:after:1", f"{SINK}.append:after:2", f"{SINK}.flush:after:1"),
    (PENDING, f"{SINK}.flush:after:1", f"{LEDGER}.commit:before:1", f"{LEDGER}.commit:after:1"),
    (RECORDED, f"{LEDGER}.commit:after:1", f"{ARCHIVE}:release:after:1", RECORDED, PENDING),
    (ROWS_ONLY, PENDING, RECORDED, COMMITTED),
]


@pytest.mark.parametrize(("step", "then"), RECOVERY)
def test_recovery_that_is_killed_is_done_again(
    step: str, then: str, world: World, tmp_path: Path
) -> None:
    if step in (MAKING, CHANGING):
        world = World(tmp_path / "new")
        world.drop_some()

    world.run_killed(step)
    world.run_killed(then)
    world.drop_pair()
    world.run_once()

    world.assert_all_done()


@pytest.mark.parametrize("steps", AGAIN_AND_AGAIN)
def test_recovery_killed_several_times_in_a_row(steps: tuple[str, ...], world: World) -> None:
    for step in steps:
        world.run_killed(step)
        world.drop_some()

    world.run_once()

    world.assert_all_done()
