"""The ledger knows what became of each file, also after it was closed, full or broken."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.errors import BrokenInvariant, BusyWorld
from ingestd.ledger import Ledger, Settled, Summary
from ingestd.ledger_schema import SCHEMA
from ingestd.lifecycle import State
from ingestd.model import DropFile, Entry, Fingerprint, Placement, RowRange

OUT = "/out.h5"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path) -> Iterator[Ledger]:
    made = Ledger(path)
    yield made
    made.close()


def a_file(name: str = "a.npy", size: int = 1, source: str = "s") -> DropFile:
    return DropFile(source, name, Fingerprint(size, 2, 3))


def entry(number: int, rows: dict[str, tuple[int, int]], output: str = OUT, **file: str) -> Entry:
    placements = tuple(Placement(d, RowRange(*r), f"{number}{d}") for d, r in rows.items())
    name = file.pop("name", f"{number}.npy")
    return Entry(number, a_file(name, **file), f"content {number}", output, placements)


def committed(ledger: Ledger, *entries: Entry) -> None:
    ledger.intend(entries)
    ledger.commit([e.file_id for e in entries])


def quarantined(number: int, file: DropFile, reason: str = "{}") -> Settled:
    return Settled(number, file, State.QUARANTINED, reason)


def test_a_file_is_known_by_path_and_fingerprint_only(ledger) -> None:
    committed(ledger, entry(1, {"/data": (0, 5)}, name="a.npy"))

    assert ledger.known(a_file()) is State.COMMITTED
    assert ledger.known(a_file(size=2)) is State.NEW
    assert ledger.known(a_file("b.npy")) is State.NEW
    assert ledger.known(a_file(source="t")) is State.NEW


def test_any_name_of_bytes_comes_back_as_it_went_in(ledger) -> None:
    name = os.fsdecode(b"a\xff\n.npy")
    ledger.settle([quarantined(1, a_file(name))])

    assert ledger.unreleased()[0][1] == a_file(name)
    assert ledger.known(a_file(name)) is State.QUARANTINED


def test_a_file_goes_from_pending_to_committed_and_is_released_last(ledger) -> None:
    one = entry(7, {"/a": (0, 5), "/b": (2, 4)})
    ledger.intend([one])
    assert ledger.known(one.file) is State.PENDING
    assert ledger.pending(OUT) == [one]
    assert ledger.pending_outputs() == [OUT]
    assert ledger.unreleased() == []

    ledger.commit([7])
    assert ledger.pending(OUT) == ledger.pending_outputs() == []
    assert ledger.unreleased() == [(7, one.file, State.COMMITTED, "")]

    ledger.release([7])
    assert ledger.unreleased() == []


def test_pending_files_come_oldest_first_each_for_its_output(ledger) -> None:
    entries = [entry(i, {"/a": (i, i + 1)}) for i in (3, 1, 2)]
    other = entry(4, {"/a": (0, 1)}, output="/other.h5")

    ledger.intend([*entries, other])

    assert [e.file_id for e in ledger.pending(OUT)] == [1, 2, 3]
    assert ledger.pending("/other.h5") == [other]


def test_a_withdrawn_file_is_new_and_its_rows_are_forgotten(ledger) -> None:
    ledger.intend([entry(1, {"/a": (0, 5)}), entry(2, {"/a": (5, 6)})])

    ledger.withdraw([2])

    assert ledger.known(entry(2, {}).file) is State.NEW
    assert [e.file_id for e in ledger.pending(OUT)] == [1]
    ledger.intend([entry(2, {"/a": (5, 9)})])


def test_what_is_committed_cannot_be_withdrawn(ledger) -> None:
    committed(ledger, entry(1, {"/a": (0, 5)}))

    ledger.withdraw([1])

    assert ledger.ends(OUT) == {"/a": (5, 1)}


def test_ends_are_those_of_the_last_committed_file_of_each_dataset(ledger) -> None:
    committed(
        ledger,
        entry(1, {"/a": (0, 5), "/b": (0, 0)}),
        entry(2, {"/a": (5, 9)}),
        entry(3, {"/c": (0, 7)}, output="/other.h5"),
    )
    ledger.intend([entry(4, {"/a": (9, 20), "/d": (0, 3)})])

    assert ledger.ends(OUT) == {"/a": (9, 2), "/b": (0, 1), "/d": (0, 0)}
    assert ledger.ends("/other.h5") == {"/c": (7, 3)}
    assert ledger.ends("/nothing.h5") == {}


def test_everything_survives_reopening(ledger, path) -> None:
    committed(ledger, entry(1, {"/a": (0, 5)}))
    ledger.intend([entry(2, {"/a": (5, 6)})])
    ledger.settle([quarantined(3, a_file("bad.npy"), "why")])
    ledger.close()

    again = Ledger(path)

    assert again.ends(OUT) == {"/a": (5, 1)}
    assert again.pending(OUT) == [entry(2, {"/a": (5, 6)})]
    assert again.last_id() == 3
    assert [(i, state, why) for i, _, state, why in again.unreleased()] == [
        (1, State.COMMITTED, ""),
        (3, State.QUARANTINED, "why"),
    ]
    again.close()


def test_an_empty_ledger_has_given_no_id(ledger) -> None:
    assert ledger.last_id() == 0


def test_only_content_whose_rows_were_taken_is_held(ledger) -> None:
    committed(ledger, entry(1, {"/a": (0, 5)}))
    ledger.intend([entry(2, {"/a": (5, 6)})])
    ledger.settle([Settled(3, a_file("t.npy"), State.SKIPPED, "twin", "content 3")])

    assert ledger.holds("s", "content 1") == "1.npy"
    assert ledger.holds("s", "content 2") == "2.npy"
    assert ledger.holds("s", "content 3") is None
    assert ledger.holds("t", "content 1") is None


def test_adopted_files_are_committed_and_released_once_for_all_their_datasets(ledger) -> None:
    ledger.adopt([[entry(5, {"/a": (0, 4)})], [entry(5, {"/b": (0, 2)})]])

    assert ledger.ends(OUT) == {"/a": (4, 5), "/b": (2, 5)}
    assert ledger.unreleased() == []
    assert ledger.holds("s", "content 5") == "5.npy"


def test_adopting_is_all_or_none(ledger) -> None:
    def batches() -> Iterator[list[Entry]]:
        yield [entry(1, {"/a": (0, 4)})]
        raise OSError("the output cannot be read")

    with pytest.raises(OSError, match="cannot be read"):
        ledger.adopt(batches())

    assert ledger.ends(OUT) == {}


@pytest.mark.parametrize("state", [State.NEW, State.PENDING])
def test_a_file_is_settled_only_by_a_legal_step(ledger, state: State) -> None:
    if state is State.NEW:
        with pytest.raises(AssertionError):
            ledger.settle([Settled(1, a_file(), state, "")])

    assert ledger.unreleased() == []


def test_one_bad_entry_undoes_its_whole_transaction(ledger) -> None:
    committed(ledger, entry(1, {"/a": (0, 5)}))

    with pytest.raises(BrokenInvariant):
        ledger.intend([entry(2, {"/a": (5, 6)}), entry(1, {"/a": (6, 7)})])

    assert ledger.pending(OUT) == []
    assert ledger.ends(OUT) == {"/a": (5, 1)}
    ledger.intend([entry(2, {"/a": (5, 6)})])


def test_a_quarantined_file_can_be_new_again_but_no_other(ledger) -> None:
    ledger.settle([quarantined(1, a_file("bad.npy"))])
    committed(ledger, entry(2, {"/a": (0, 1)}, name="good.npy"))

    for name in ("bad.npy", "good.npy"):
        ledger.forget_quarantined("s", name)

    assert ledger.known(a_file("bad.npy")) is State.NEW
    assert ledger.known(a_file("good.npy")) is State.COMMITTED


def test_the_summary_counts_files_and_rows_of_one_source(ledger) -> None:
    committed(ledger, entry(1, {"/a": (0, 5), "/b": (0, 2)}), entry(2, {"/a": (5, 6)}))
    ledger.intend([entry(3, {"/a": (6, 60)})])
    ledger.settle([Settled(4, a_file("t.npy"), State.SKIPPED, "twin")])

    assert ledger.summary("s", OUT, 60) == Summary(2, 8, 8, "2.npy", 1)
    assert ledger.summary("s", OUT, -60).recent_rows == 0
    assert ledger.summary("none", OUT, 60) == Summary()


def test_a_full_disk_is_a_busy_world_and_changes_nothing(ledger) -> None:
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [entry(i, {"/a": (i, i + 1)}) for i in range(2000)]

    with pytest.raises(BusyWorld, match="full"):
        ledger.intend(many)
    assert ledger.pending(OUT) == []

    ledger._db.execute("PRAGMA max_page_count = 1000000")
    ledger.intend(many)
    assert len(ledger.pending(OUT)) == 2000


def test_a_second_connection_that_holds_the_lock_is_a_busy_world(ledger, path) -> None:
    ledger._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(BusyWorld, match="locked"):
        ledger.intend([entry(1, {"/a": (0, 1)})])

    other.execute("ROLLBACK")
    other.close()
    ledger.intend([entry(1, {"/a": (0, 1)})])


def test_two_connections_see_each_others_commits(ledger, path) -> None:
    other = Ledger(path)

    committed(ledger, entry(1, {"/a": (0, 5)}))

    assert other.ends(OUT) == {"/a": (5, 1)}
    other.close()


def test_a_ledger_in_no_directory_is_a_busy_world(tmp_path) -> None:
    with pytest.raises(BusyWorld, match="unable to open"):
        Ledger(tmp_path / "none" / "ledger.sqlite")


def test_a_file_that_is_no_database_is_said_with_a_remedy(path) -> None:
    path.write_bytes(b"not a database, but long enough to look like one" * 100)

    with pytest.raises(BrokenInvariant, match=r"ledger.sqlite: .* Move it away: it is rebuilt"):
        Ledger(path)


def test_a_damaged_database_is_said_with_a_remedy_by_whatever_reads_it(ledger, path) -> None:
    committed(ledger, *(entry(i, {"/a": (i, i + 1)}) for i in range(1, 500)))
    ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))

    damaged = Ledger(path)

    for ask in (
        lambda: damaged.ends(OUT),
        lambda: damaged.pending(OUT),
        lambda: damaged.unreleased(),
        lambda: damaged.known(a_file()),
        lambda: damaged.holds("s", "content 1"),
        lambda: damaged.last_id(),
        lambda: damaged.intend([entry(900, {"/a": (0, 1)})]),
    ):
        with pytest.raises(BrokenInvariant, match="Move it away"):
            ask()
    damaged.close()


FIRST_LAYOUT = re.sub(r",[^,]*\n    captures TEXT.*\n", "\n", SCHEMA)


def test_a_ledger_of_the_second_layout_is_brought_up_to_this_one(path) -> None:
    old = sqlite3.connect(path)
    old.executescript(FIRST_LAYOUT + "PRAGMA user_version = 2;")
    old.close()

    ledger = Ledger(path)

    ledger.intend([entry(1, {"/a": (0, 5)})._replace(captures='{"run":7}')])
    assert [e.captures for e in ledger.pending(OUT)] == ['{"run":7}']
    ledger.close()


def test_the_same_content_is_told_apart_by_where_it_went(ledger) -> None:
    committed(ledger, entry(1, {"/a": (0, 5), "/b": (0, 5)}))
    (digest,) = ledger._db.execute("SELECT digest FROM files").fetchone()

    assert ledger.holds("s", digest) is not None
    assert ledger.holds("s", digest, (OUT, ["/c", "/b"])) is not None
    assert ledger.holds("s", digest, (OUT, ["/c"])) is None
    assert ledger.holds("s", digest, ("other.h5", ["/b"])) is None


def test_rows_that_were_placed_and_what_fed_them_are_told(ledger) -> None:
    committed(ledger, entry(1, {"/a": (7, 9)}), entry(2, {"/a": (0, 2), "/b": (1, 2)}))

    assert [(g.start, g.stop) for g in ledger.placed(OUT, "/a").missing(0, 9)] == [(2, 7)]
    assert ledger.fed_by("s") == {OUT: ["/a", "/b"]}
    assert ledger.fed_by("another") == {}


def test_a_ledger_that_is_only_looked_at_stays_as_it_is(path) -> None:
    old = sqlite3.connect(path)
    old.executescript(FIRST_LAYOUT + "PRAGMA user_version = 2;")
    old.close()
    before = path.read_bytes()

    ledger = Ledger(path, read_only=True)

    assert ledger.summary("s", None, 60.0).files == 0
    with pytest.raises(BusyWorld, match="readonly"):
        ledger.release([1])
    ledger.close()
    assert path.read_bytes() == before


def test_to_look_at_a_ledger_makes_no_files(path) -> None:
    writer = Ledger(path)
    committed(writer, entry(1, {"/a": (0, 5)}))
    assert Ledger(path, read_only=True).summary("s", None, 60.0).rows == 5
    writer.close()
    before = sorted(path.parent.iterdir())

    ledger = Ledger(path, read_only=True)

    assert ledger.summary("s", None, 60.0).rows == 5
    assert sorted(path.parent.iterdir()) == before
    ledger.close()


def test_a_ledger_that_is_just_being_made_is_no_ledger_yet(path) -> None:
    path.touch()

    with pytest.raises(BusyWorld, match="Ask again"):
        Ledger(path, read_only=True)


def test_a_ledger_of_the_first_layout_is_brought_up_to_this_one(path) -> None:
    old = sqlite3.connect(path)
    old.executescript(
        FIRST_LAYOUT.replace("files (digest, mtime_ns)", "files (digest, source)")
        + "CREATE INDEX files_pending ON files (id) WHERE state = 'pending';"
        + "PRAGMA user_version = 1;"
    )
    old.close()

    Ledger(path).close()
    ledger = Ledger(path)

    committed(ledger, entry(1, {"/a": (0, 5)}))
    assert ledger.ends(OUT) == {"/a": (5, 1)}
    indexes = dict(ledger._db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'"))
    assert "substr(digest, 1, 8), mtime_ns" in indexes["files_by_digest"]
    assert "files_pending" not in indexes
    ledger.close()


def test_contents_are_found_by_their_index(ledger) -> None:
    asked: list[str] = []
    ledger._db.set_trace_callback(asked.append)

    ledger.seen(["d" * 32])
    ledger.holds("s", "d" * 32)
    ledger.holds("s", "d" * 32, (OUT, ["/a"]))
    ledger.took(entry(1, {}).file, "d" * 32)

    ledger._db.set_trace_callback(None)
    assert len(asked) == 4
    for query in asked:
        plan = ledger._db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert any("files_by_digest" in step[-1] for step in plan), (query, plan)


def test_digests_that_were_seen_are_found_among_many(ledger) -> None:
    committed(ledger, *(entry(i, {"/a": (i, i + 1)}) for i in range(1, 20)))
    names = [f"content {i}" for i in range(15, 30)]

    assert ledger.seen(names) == {f"content {i}" for i in range(15, 20)}
    assert ledger.seen([]) == set()
