"""A lock has one holder, and dies with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ENVIRONMENT

from ingestd import locks
from ingestd.errors import BusyWorld

HOLDER = """
import sys, pathlib
from ingestd import locks
with locks.hold(pathlib.Path(sys.argv[1]), "x"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_told_who_has_it(tmp_path) -> None:
    lock = tmp_path / "new" / "lock"

    with locks.hold(lock, "another ingestd is here"):
        with pytest.raises(BusyWorld, match=f"another ingestd is here.*{os.getpid()}"):
            with locks.hold(lock, "another ingestd is here"):
                pass
        assert locks.held(lock)

    assert not locks.held(lock)


def test_a_lock_that_was_never_made_is_not_held(tmp_path) -> None:
    assert not locks.held(tmp_path / "lock")


def test_a_lock_dies_with_its_process(tmp_path) -> None:
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert locks.held(lock)

        holder.kill()
        holder.wait()

    with locks.hold(lock, "x"):
        assert lock.read_text() == f"{os.getpid()}\n"


def test_the_lock_of_an_output_lies_hidden_beside_it() -> None:
    assert locks.output_lock(Path("data/a.h5")) == Path("data/.a.h5.lock")
