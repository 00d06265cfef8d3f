"""What is told of a file is what the ledger says of it, and of no other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

import ingestd
from ingestd.config import load
from ingestd.errors import BusyWorld
from ingestd.handin.offers import Offer
from ingestd.handin.outcome import Outcome, outcome, took_before
from ingestd.handin.view import LedgerView
from ingestd.ledger import Ledger, Settled
from ingestd.ledger_schema import VERSION
from ingestd.lifecycle import State
from ingestd.model import DropFile, Entry, Fingerprint, Placement, RowRange

KNOWN = Fingerprint(7, 8, 9)
ROWS = (Placement("/data", RowRange(3, 5), "d"),)


@pytest.fixture
def ledger(tmp_path, monkeypatch) -> Iterator[Ledger]:
    monkeypatch.chdir(tmp_path)
    made = Ledger(tmp_path / "ledger #1.sqlite")
    yield made
    made.close()


@pytest.fixture
def view(ledger) -> Iterator[LedgerView]:
    made = LedgerView(ledger.path)
    yield made
    made.close()


def offer(name: str = "a.npy") -> Offer:
    Path("x.yaml").write_text("sources: {s: {drop: drop, output: o.h5}}")
    return Offer(Path(name), load(Path("x.yaml")).sources["s"], name)


def commit(
    ledger: Ledger,
    number: int,
    name: str = "a.npy",
    output: str = "o.h5",
    digest: str = "content",
    known: Fingerprint = KNOWN,
    source: str = "s",
) -> None:
    ledger.intend([Entry(number, DropFile(source, name, known), digest, output, ROWS)])
    ledger.commit([number])


def settle(ledger: Ledger, number: int, state: State, reason: str) -> None:
    ledger.settle([Settled(number, DropFile("s", "a.npy", KNOWN), state, reason, "content")])


def test_a_file_is_committed_once_the_ledger_says_so_and_not_before(ledger, view) -> None:
    before = view.version()
    ledger.intend([Entry(1, DropFile("s", "a.npy", KNOWN), "content", "run7.h5", ROWS)])
    pending = outcome(view, offer(), KNOWN, 0)
    ledger.commit([1])

    found = outcome(view, offer(), KNOWN, 0)

    assert pending is None
    assert found == Outcome(Path("a.npy"), "s", "a.npy", State.COMMITTED, "run7.h5", ROWS)
    assert found.durable
    assert view.version() != before


def test_an_older_file_that_had_the_same_inode_is_not_taken_for_this_one(ledger, view) -> None:
    settle(ledger, 1, State.QUARANTINED, "{}")
    after_id = view.last_id()

    assert outcome(view, offer(), KNOWN, after_id) is None
    assert outcome(view, offer("b.npy"), KNOWN, 0) is None
    assert outcome(view, offer(), KNOWN._replace(mtime_ns=1), 0) is None


def test_a_quarantined_file_is_told_with_what_its_reason_says(ledger, view) -> None:
    reason = {"expected": "rows of int64", "found": "rows of text", "do": "Save it anew", "at": ""}
    settle(ledger, 1, State.QUARANTINED, json.dumps(reason))

    found = outcome(view, offer(), KNOWN, 0)

    assert found is not None and not found.durable
    assert found.reason == "rows of text; expected rows of int64. Save it anew"


def test_a_skipped_file_is_told_with_the_rows_of_the_one_that_its_reason_names(
    ledger, view
) -> None:
    commit(ledger, 1, "run1.npy", "1.h5")
    commit(ledger, 2, "run2.npy", "2.h5")
    settle(ledger, 3, State.SKIPPED, "same content as run2.npy")

    found = outcome(view, offer(), KNOWN, 0)

    assert found is not None and found.durable
    assert (found.state, found.output, found.placements) == (State.SKIPPED, "2.h5", ROWS)


def test_a_file_that_brings_no_rows_is_told_without_any(ledger, view) -> None:
    settle(ledger, 1, State.SKIPPED, "the transform returned no rows")

    found = outcome(view, offer(), KNOWN, 0)

    assert found is not None and found.durable
    assert (found.output, found.placements) == (None, ())


@pytest.mark.parametrize("size", [7, -1])
def test_the_very_file_that_was_taken_before_is_known_by_name_size_time_and_content(
    size: int, ledger, view
) -> None:
    Path("a.npy").write_bytes(b"content")
    os.utime("a.npy", ns=(8, 8))
    digest = xxhash.xxh3_128(b"content").hexdigest()
    commit(ledger, 1, digest=digest, known=Fingerprint(size, 8, -1), output="run1.h5")

    found = took_before(view, offer())
    Path("a.npy").write_bytes(b"another")
    os.utime("a.npy", ns=(8, 8))

    assert found is not None and found.durable and found.output == "run1.h5"
    assert took_before(view, offer()) is None
    Path("a.npy").write_bytes(b"content")
    os.utime("a.npy", ns=(9, 9))
    assert took_before(view, offer()) is None


def test_a_ledger_that_is_not_there_or_not_made_yet_or_a_later_ones_can_be_waited_for(
    tmp_path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(BusyWorld, match="not there yet"):
        LedgerView(path)
    path.touch()
    with pytest.raises(BusyWorld, match="just starting"):
        LedgerView(path)
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(BusyWorld, match="not a database"):
        LedgerView(path)
    path.unlink()
    later = Ledger(path)
    later._db.execute(f"PRAGMA user_version = {VERSION + 1}")
    later.close()
    with pytest.raises(BusyWorld, match="a later ingestd"):
        LedgerView(path)


def test_a_ledger_that_was_replaced_is_noticed_and_nothing_is_written_to_it(ledger, view) -> None:
    assert not view.replaced
    with pytest.raises(BusyWorld, match="readonly"):
        view._all("DELETE FROM files")

    ledger.path.rename("elsewhere")
    assert view.replaced
    Path(ledger.path).touch()
    assert view.replaced


def test_put_is_there_when_it_is_asked_for_and_no_other_name_is() -> None:
    assert callable(ingestd.put)
    assert issubclass(ingestd.NotDurable, BusyWorld)
    assert {"put", "NotDurable"} <= set(dir(ingestd))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = ingestd.nope
