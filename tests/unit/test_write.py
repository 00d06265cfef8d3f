"""The writer: every row once, in file order, and each step of a commit after the one before it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from flows import drop_file, make_config

from ingestd.errors import BadFile, BrokenInvariant, BusyWorld
from ingestd.layout import RECORD, records_path
from ingestd.ledger import Ledger
from ingestd.lifecycle import State
from ingestd.model import (
    Block,
    Bundle,
    Decoded,
    DropFile,
    Failed,
    Message,
    NotYet,
    Opened,
    RowRange,
    RowType,
)
from ingestd.pipeline import archive
from ingestd.pipeline.commit import Committer, Progress
from ingestd.pipeline.outputs import Outputs
from ingestd.pipeline.reorder import Reorder
from ingestd.pipeline.write import Writer
from ingestd.sinks import DatasetSpec

MEMORY = 8 << 20


class MemorySink:
    """A sink (see ``ingestd.sinks.Sink``) whose datasets are arrays; ``steps`` is what it did."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.data: dict[str, list[np.ndarray]] = {}
        self.specs: dict[str, DatasetSpec] = {}
        self.types: dict[str, RowType] = {}
        self.fail_on: dict[str, BaseException] = {}
        self.reads_back_wrong = False
        self.visible_rows: dict[str, int] = {}  # less than there are

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.fail_on:
            raise self.fail_on[name]

    def rows(self, dataset: str) -> int:
        return sum(len(rows) for rows in self.data[dataset])

    def places(self, dataset: str) -> int | None:
        return 2**40 if self.specs[dataset].placed else None

    def array(self, dataset: str) -> np.ndarray:
        parts = self.data[dataset]
        held = self.types[dataset]
        return np.concatenate(parts) if parts else np.empty((0, *held.row_shape), held.dtype)

    def ensure(
        self, specs: Mapping[str, DatasetSpec], attrs: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._step("ensure")
        for path, spec in specs.items():
            if path not in self.data:
                self.specs[path] = spec
                self.data[path], self.types[path] = [], spec.type
                self.data[records_path(path)] = []
                self.types[records_path(path)] = RowType(RECORD, ())

    def append(self, dataset: str, rows: np.ndarray) -> RowRange:
        self._step("records" if dataset.startswith("/ingestd/") else "rows")
        start = self.rows(dataset)
        self.data[dataset].append(rows)
        return RowRange(start, start + len(rows))

    def write(self, dataset: str, start: int, rows: np.ndarray) -> RowRange:
        self._step("rows")
        held = self.array(dataset)
        stop = start + len(rows)
        grown = np.zeros((max(len(held), stop), *rows.shape[1:]), rows.dtype)
        grown[: len(held)] = held
        grown[start:stop] = rows
        self.data[dataset] = [grown]
        return RowRange(start, stop)

    def blank(self, dataset: str, rows: RowRange) -> bool:
        self._step("blank")
        self.write(dataset, rows.start, np.zeros_like(self.array(dataset)[rows.start : rows.stop]))
        return True

    def digest(self, dataset: str, rows: RowRange) -> str:
        self._step("digest")
        held = self.array(dataset)[rows.start : rows.stop]
        return "wrong" if self.reads_back_wrong else digest_of(held)

    def cut(self, ends: Mapping[str, int]) -> None:
        self._step("cut")
        for dataset, end in ends.items():
            self.data[dataset] = [self.array(dataset)[:end]]

    def flush(self, *, durable: bool = False, whole: bool = True) -> None:
        self._step("flush")

    def visible(self, dataset: str) -> int:
        return min(self.rows(dataset), self.visible_rows.get(dataset, 10**9))

    def barrier(self) -> Callable[[], None]:
        return lambda: self._step("sync")

    def close(self) -> None:
        self._step("close")


def digest_of(rows: np.ndarray) -> str:
    return xxhash.xxh3_128(np.ascontiguousarray(rows).tobytes()).hexdigest()


class Bench:
    """A writer with everything around it; ``steps`` is all that was done, in order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **keys: Any) -> None:
        more = {"commit": {"every": "1h", **keys.pop("commit", {})}}
        self.read_back = keys.pop("read_back", False)
        self.config = make_config(root, more=more, **keys)
        self.source = self.config.sources["s"]
        self.steps: list[str] = []
        self.sink = MemorySink(self.steps)
        self.sinks = defaultdict(lambda: MemorySink(self.steps), {self.source.output: self.sink})
        self.ledger = Ledger(root / "ledger.sqlite")
        self.reorder = Reorder(MEMORY)
        self.progress = Progress()
        self.files: dict[int, list[DropFile]] = {}
        self.finished_files: list[tuple[str, bool]] = []
        self.again_files: list[str] = []
        self.monkeypatch = monkeypatch
        for name in ("intend", "commit", "settle", "release"):
            self._recorded(self.ledger, name, f"ledger.{name}")
        for name in ("release", "quarantine"):
            self._recorded(archive, name, f"archive.{name}")

    def _recorded(self, owner: object, name: str, step: str) -> None:
        real: Callable[..., object] = getattr(owner, name)

        def record(*args: object, **kwargs: object) -> object:
            self.steps.append(step)
            return real(*args, **kwargs)

        self.monkeypatch.setattr(owner, name, record)

    # what the writer asks of the flow (write.Tickets)

    def file(self, ticket: int) -> DropFile:
        return self.files[ticket][0]

    def leave(self, ticket: int, count: int = 1) -> list[DropFile]:
        files = self.files.pop(ticket)
        assert len(files) == count
        return files

    def held(self, count: int) -> None:
        self.held_files = count

    def again(self, file: DropFile, why: NotYet) -> None:
        self.again_files.append(file.name)

    def finished(self, files: Iterable[DropFile], *, released: bool) -> None:
        self.finished_files += [(file.name, released) for file in files]

    # what tests do

    def say(self, name: str, *messages: Message) -> None:
        """Drop a file, and say ``messages`` of it."""
        path = self.source.drop / name
        path.write_bytes(b"x")
        ticket = max(self.files, default=self.reorder._head - 1) + 1
        self.files[ticket] = [drop_file(self.source, name)]
        for message in messages:
            if isinstance(message, Block | Bundle):
                self.reorder.reserve(ticket, message.rows.nbytes)
            self.reorder.put(ticket, message)

    def run(self) -> None:
        """Let a writer take all that was said."""
        writer = self.writer()
        self.reorder.close()
        writer.run(lambda: True)
        assert self.reorder._in_flight == 0

    def writer(self) -> Writer:
        """A writer whose batches are committed at once, and in this thread."""
        committer = Committer(self.config, self.ledger, self, self.progress)
        committer.hand = committer.commit
        return Writer(
            self.config,
            self.ledger,
            Outputs({}, lambda output: self.sinks[output], lambda output: None),
            self.reorder,
            self,
            committer,
            self.progress,
            threading.Lock(),
            read_back=self.read_back,
        )

    def committed(self) -> list[tuple[str, int, int]]:
        """What the records say: name, first row, end."""
        records = self.sink.array(records_path("/data"))
        return [
            (r["name"].decode(), int(r["first_row"]), int(r["first_row"] + r["rows"]))
            for r in records
        ]


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**keys: Any) -> Bench:
        made.append(Bench(tmp_path, monkeypatch, **keys))
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


def opened(digest: str, dtype: str = "i8", paths: Sequence[str] = ("/data",)) -> Opened:
    return Opened(digest, {path: RowType(np.dtype(dtype), ()) for path in paths})


def good(digest: str, *blocks: list[int]) -> list[Message]:
    """All that is said of a good file."""
    arrays = [np.array(block, "i8") for block in blocks]
    whole = np.concatenate([np.empty(0, "i8"), *arrays])
    return [
        opened(digest),
        *(Block("/data", array) for array in arrays),
        Decoded({"/data": digest_of(whole)}),
    ]


def test_each_step_of_a_commit_comes_after_the_one_before_it(bench) -> None:
    b = bench()
    b.say("a.npy", *good("1", [1, 2], [3]))

    b.run()

    assert b.steps == [
        *("ensure", "rows", "rows"),
        *("flush", "ledger.intend", "records", "flush"),
        *("sync", "ledger.commit", "archive.release", "ledger.release"),
    ]
    assert b.sink.array("/data").tolist() == [1, 2, 3]
    assert b.committed() == [("a.npy", 0, 3)]
    assert b.finished_files == [("a.npy", True)]


def test_files_that_come_together_are_committed_together(bench) -> None:
    b = bench()
    for number in range(5):
        b.say(f"{number}.npy", *good(str(number), [number] * 2))

    b.run()

    assert b.steps.count("sync") == b.steps.count("ledger.commit") == 1
    assert b.steps.count("records") == 1
    assert b.committed() == [(f"{n}.npy", 2 * n, 2 * n + 2) for n in range(5)]
    assert (b.progress.files, b.progress.rows) == (5, 10)


def test_visible_durability_leaves_out_the_disk(bench) -> None:
    b = bench(commit={"durability": "visible"})
    b.say("a.npy", *good("1", [1]))

    b.run()

    assert "sync" not in b.steps
    assert b.ledger.ends(str(b.source.output))["/data"][0] == 1


@pytest.mark.parametrize(
    "ending", [Failed(BadFile("rows", "none", "Send rows")), NotYet(0.0, "it changed")]
)
@pytest.mark.parametrize("half", [[], [7, 8]])
def test_a_file_that_fails_leaves_no_gap(bench, ending, half: list[int]) -> None:
    b = bench()
    b.say("a.npy", *good("1", [1, 2]))
    b.say("bad.npy", opened("2"), *([Block("/data", np.array(half))] if half else []), ending)
    b.say("c.npy", *good("3", [3]))

    b.run()

    assert b.sink.array("/data").tolist() == [1, 2, 3]
    assert b.committed() == [("a.npy", 0, 2), ("c.npy", 2, 3)]
    assert ("cut" in b.steps) == bool(half)
    if isinstance(ending, Failed):
        assert (b.source.quarantine / "bad.npy").exists()
        assert "Send rows" in (b.source.quarantine / "bad.npy.reason.json").read_text()
        assert b.progress.quarantined == 1
    else:
        assert b.again_files == ["bad.npy"]
        assert (b.source.drop / "bad.npy").exists()


def test_a_half_written_file_is_taken_back_when_the_flow_stops(bench) -> None:
    b = bench()
    b.say("a.npy", *good("1", [1, 2]))
    b.say("half.npy", opened("2"), Block("/data", np.array([7, 8])))

    b.run()

    assert b.sink.array("/data").tolist() == [1, 2]
    assert b.committed() == [("a.npy", 0, 2)]
    assert (b.source.drop / "half.npy").exists()


@pytest.mark.parametrize(
    ("duplicates", "rows", "fate"),
    [("skip", [1], "done"), ("append", [1, 1], "done"), ("quarantine", [1], "failed")],
)
@pytest.mark.parametrize("in_one_batch", [True, False])
def test_the_same_content_again_is_treated_as_the_config_says(
    bench, tmp_path, duplicates: str, rows: list[int], fate: str, in_one_batch: bool
) -> None:
    b = bench(duplicates=duplicates)
    b.say("a.npy", *good("same", [1]))
    if not in_one_batch:
        b.run()
        b.reorder = Reorder(MEMORY)
    b.say("twin.npy", *good("same", [1]))

    b.run()

    assert b.sink.array("/data").tolist() == rows
    assert (tmp_path / fate / "twin.npy").exists()
    assert len(b.committed()) == len(rows)
    assert b.progress.skipped == (duplicates == "skip")


def test_a_twin_of_a_file_that_came_to_nothing_is_taken(bench) -> None:
    b = bench()
    b.say("a.npy", opened("same"), Block("/data", np.array([1])), NotYet(0.0, "it changed"))
    b.say("b.npy", *good("same", [1]))

    b.run()

    assert b.committed() == [("b.npy", 0, 1)]


def test_rows_of_another_kind_than_the_dataset_holds_are_quarantined(bench) -> None:
    b = bench()
    b.say("a.npy", *good("1", [1]))
    b.say("b.npy", opened("2", "f4"), Block("/data", np.zeros(3, "f4")), Decoded({"/data": "x"}))
    b.say("c.npy", *good("3", [2]))

    b.run()

    assert b.sink.array("/data").tolist() == [1, 2]
    reason = (b.source.quarantine / "b.npy.reason.json").read_text()
    assert "rows of float32 ()" in reason
    assert "a dataset of their own" in reason


def test_what_the_sink_cannot_hold_is_quarantined(bench) -> None:
    b = bench()
    b.sink.fail_on["ensure"] = BadFile("rows that it can hold", "others", "Send others")
    b.say("a.npy", *good("1", [1]))

    b.run()

    assert (b.source.quarantine / "a.npy").exists()


def test_a_fill_value_that_does_not_fit_the_first_file_is_said(bench) -> None:
    b = bench(datasets={"/data": {"fill": -1}})
    b.say("a.npy", opened("1", "u1"), Block("/data", np.zeros(3, "u1")), Decoded({"/data": "x"}))
    b.say("b.npy", *good("2", [5]))

    b.run()

    assert "fill" in (b.source.quarantine / "a.npy.reason.json").read_text()
    assert b.committed() == [("b.npy", 0, 1)]
    assert b.sink.specs["/data"].fill == -1


def test_several_datasets_of_a_file_go_in_lockstep(bench) -> None:
    b = bench(datasets={"/a": {}, "/b": {}})
    both = opened("1", paths=("/a", "/b"))
    b.say(
        "good.npz",
        *(both, Block("/a", np.array([1])), Block("/b", np.array([2, 3]))),
        Decoded({"/a": "x", "/b": "y"}),
    )
    b.say(
        "half.npz",
        *(opened("2", paths=("/a", "/b")), Block("/a", np.array([9]))),
        Failed(BadFile("two members", "one", "Save both")),
    )

    b.run()

    assert b.sink.array("/a").tolist() == [1]
    assert b.sink.array("/b").tolist() == [2, 3]
    for path, rows in (("/a", 1), ("/b", 2)):
        (record,) = b.sink.array(records_path(path))
        assert (record["first_row"], record["rows"], record["name"]) == (0, rows, b"good.npz")
        assert record["datasets"] == 2


def test_a_file_without_rows_is_committed_too(bench) -> None:
    b = bench()
    b.say("none.npy", *good("1"))

    b.run()

    assert b.committed() == [("none.npy", 0, 0)]
    assert b.finished_files == [("none.npy", True)]


def test_of_a_name_too_long_for_the_record_the_end_is_kept(bench) -> None:
    b = bench(recursive=True)
    (b.source.drop / ("d" * 200)).mkdir()
    name = "d" * 200 + "/" + "x" * 100 + ".npy"
    b.say(name, *good("1", [1]))

    b.run()

    assert b.committed() == [(name[-255:], 0, 1)]
    assert b.ledger.known(drop_or_done(b, name)) is State.COMMITTED


def drop_or_done(b: Bench, name: str) -> DropFile:
    assert b.source.after.directory is not None
    done = drop_file(b.source.model_copy(update={"drop": b.source.after.directory}), name)
    return DropFile("s", name, done.fingerprint)


def test_rows_that_were_written_anew_are_read_back_before_they_are_committed(bench) -> None:
    b = bench(read_back=True)
    b.say("a.npy", *good("1", [1, 2]))

    b.run()

    assert b.steps.index("sync") < b.steps.index("digest") < b.steps.index("ledger.commit")


def test_rows_that_do_not_read_back_are_not_committed(bench) -> None:
    b = bench(read_back=True)
    b.sink.reads_back_wrong = True
    b.say("a.npy", *good("1", [1, 2]))

    with pytest.raises(BrokenInvariant, match="do not read back"):
        b.run()

    assert "ledger.commit" not in b.steps
    assert (b.source.drop / "a.npy").exists()


@pytest.mark.parametrize("step", ["rows", "flush", "records", "sync"])
def test_a_write_that_fails_lets_no_file_go(bench, step: str) -> None:
    b = bench()
    b.sink.fail_on[step] = BusyWorld("no space left")
    b.say("a.npy", *good("1", [1, 2]))

    with pytest.raises(BusyWorld):
        b.run()

    assert "ledger.commit" not in b.steps
    assert "archive.release" not in b.steps
    assert (b.source.drop / "a.npy").exists()


def test_a_file_that_cannot_be_moved_is_committed_and_stays_to_be_moved_later(
    bench, monkeypatch, caplog
) -> None:
    b = bench()
    b.say("a.npy", *good("1", [1]))

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archive, "release", refuse)
    b.run()

    assert b.finished_files == [("a.npy", False)]
    assert [state for _, _, state, _ in b.ledger.unreleased()] == [State.COMMITTED]
    assert "cannot be moved, will try again: Permission denied" in caplog.text


def test_ids_rise_beyond_those_of_the_ledger(bench) -> None:
    b = bench()
    b.say("a.npy", *good("1", [1]))
    b.run()
    b.reorder = Reorder(MEMORY)
    b.monkeypatch.setattr("time.time_ns", lambda: 0)
    b.say("b.npy", *good("2", [2]))
    b.say("c.npy", Failed(BadFile("a", "b", "c")))

    b.run()

    first, second = b.sink.array(records_path("/data"))["file_id"]
    assert second > first
    assert b.ledger.last_id() > first


def test_a_file_waits_for_its_rows_to_be_seen_and_those_after_it_wait_for_it(bench) -> None:
    b = bench(datasets={"/a": {}, "/b": {}, "/c": {}})
    writer = b.writer()
    for number, paths in enumerate([("/a", "/b"), ("/b",), ("/c",)]):
        blocks = [Block(path, np.array([number])) for path in paths]
        ends = Decoded(dict.fromkeys(paths, "x"))
        b.say(f"{number}.npz", opened(str(number), paths=paths), *blocks, ends)
    b.sink.visible_rows = {"/a": 0}
    while taken := b.reorder.take(0):
        writer._handle(*taken)

    writer.commit()
    first = b.finished_files.copy()
    held = b.held_files
    b.sink.visible_rows = {}
    writer.commit()

    assert (first, held) == ([("2.npz", True)], 2)
    assert [name for name, _ in b.finished_files] == ["2.npz", "0.npz", "1.npz"]
    assert b.held_files == 0


def test_a_twin_of_a_file_that_waits_is_let_go_after_it(bench) -> None:
    b = bench()
    writer = b.writer()
    b.say("a.npy", *good("same", [1]))
    b.say("twin.npy", *good("same", [1]))
    b.sink.visible_rows = {"/data": 0}
    while taken := b.reorder.take(0):
        writer._handle(*taken)

    writer.commit()
    assert b.finished_files == []
    b.sink.visible_rows = {}
    writer.commit()

    assert [name for name, _ in b.finished_files] == ["a.npy", "twin.npy"]


def bundle_of(*files: tuple[str, list[int]]) -> Bundle:
    """Files of one number of rows each, by the digest of their bytes."""
    rows = np.concatenate([np.array(values, "i8") for _, values in files])
    digests = [(digest, digest_of(np.array(values, "i8"))) for digest, values in files]
    return Bundle("/data", RowType(np.dtype("i8"), ()), rows, digests)


def test_files_of_a_bundle_are_committed_each(bench) -> None:
    b = bench()
    b.say("0.npy", bundle_of(("1", [1, 2]), ("2", [3, 4]), ("1", [1, 2])))
    (b.source.drop / "1.npy").write_bytes(b"x")
    (b.source.drop / "2.npy").write_bytes(b"x")
    b.files[0] += [drop_file(b.source, "1.npy"), drop_file(b.source, "2.npy")]

    b.run()

    assert b.sink.array("/data").tolist() == [1, 2, 3, 4]
    assert b.committed() == [("0.npy", 0, 2), ("1.npy", 2, 4)]
    assert (b.progress.files, b.progress.rows, b.progress.skipped) == (2, 4, 1)


def test_a_bundle_of_another_kind_than_the_dataset_holds_is_quarantined_file_by_file(bench) -> None:
    b = bench()
    b.say("a.npy", opened("0", "f4"), Block("/data", np.zeros(3, "f4")), Decoded({"/data": "x"}))
    b.say("b.npy", bundle_of(("1", [1, 2]), ("2", [3, 4])))
    (b.source.drop / "c.npy").write_bytes(b"x")
    b.files[1].append(drop_file(b.source, "c.npy"))

    b.run()

    assert sorted(p.name for p in b.source.quarantine.glob("*.npy")) == ["b.npy", "c.npy"]
    assert b.progress.quarantined == 2


def test_a_large_file_whose_digest_comes_last_is_cut_again_if_it_is_a_twin(bench) -> None:
    b = bench()
    b.say("a.npy", *good("same", [1]))
    b.run()
    b.reorder = Reorder(MEMORY)
    late = Decoded({"/data": "x"}, "same")
    b.say("b.npy", opened(""), Block("/data", np.array([1])), late)

    b.run()

    assert b.sink.array("/data").tolist() == [1]
    assert b.progress.skipped == 1
    assert "cut" in b.steps
