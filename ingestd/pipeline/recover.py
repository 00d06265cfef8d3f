"""After a crash, or a failed write: brings an output and the ledger to one truth, then opens it.

Every file the ledger calls committed keeps its rows; a pending one is committed if its rows
are all there, byte for byte; whatever else was written is cut. Dying on any line here is
mended by doing it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import takewhile
from logging import DEBUG, INFO, WARNING
from pathlib import Path

import numpy as np

from ingestd.config import Source
from ingestd.disk import sync_directory
from ingestd.errors import BrokenInvariant
from ingestd.journal import event
from ingestd.layout import GROUP, key_path, records_path
from ingestd.ledger import Ledger
from ingestd.lifecycle import State
from ingestd.model import DropFile, Entry, Fingerprint, Placement, RowRange, counted
from ingestd.pipeline.archive import let_go
from ingestd.pipeline.records import append_keys, append_records
from ingestd.repair import CannotRepair, inspect, repair
from ingestd.rowset import RowSet
from ingestd.sinks.hdf5 import Hdf5Sink, world
from ingestd.sinks.hdf5_edit import replay
from ingestd.sinks.hdf5_recover import Held, remove_leftovers
from ingestd.sinks.hdf5_rehearse import rehearse


def recover(
    path: Path,
    ledger: Ledger,
    state: Path,
    open_sink: Callable[[Path], Hdf5Sink] = Hdf5Sink,
    *,
    said: bool = False,
) -> Hdf5Sink:
    """The output at ``path``, whole and open for appending (``open_sink``).

    ``said``: the trouble is known, and what is cut is not worth another line of log.

    :raises BrokenInvariant: it lost committed rows, or cannot be made to open.
    :raises BusyWorld: not now.
    """
    with world(path):
        remove_leftovers(path)
        if replay(path):
            event(INFO, "finished an interrupted change", output=path)
        if not path.exists():
            _refuse_lost(path, ledger)
            _untried(path).unlink(missing_ok=True)
            return open_sink(path)
        known = bool(ledger.ends(str(path)) or ledger.pending(str(path)))
        _make_sound(path, state, said, known)
        with Held(path) as held:
            _refuse_foreign(held, path)
            if not known:
                _adopt(held, str(path), ledger)
            kept, cuts = _reconcile(held, path, ledger)
            recorded = _recorded(held, kept)
            datasets = list(held.datasets)
            placed = [dataset for dataset in datasets if held.placed(dataset)]
    sink = open_sink(path)
    try:
        if cuts:
            level, rows = DEBUG if said else INFO, _rows_only(cuts)
            event(level, "cut rows that were not committed", output=path, **rows)
            sink.cut(cuts)
        for dataset in placed:
            _blank(sink, dataset, ledger.placed(str(path), dataset))
        _finish(sink, ledger, str(path), kept, recorded)
        # Of the rows that are left; what a crash kept from having a key gets it now.
        if sum(append_keys(sink, dataset, sink.rows(dataset)) for dataset in datasets):
            sink.flush()
    except BaseException:
        sink.abandon()
        raise
    return sink


def _refuse_foreign(held: Held, path: Path) -> None:
    if not held.ours:
        raise BrokenInvariant(
            f"{path}: this HDF5 file was not made by ingestd. Move it away, or name another output"
        )


def settle(
    ledger: Ledger, sources: Mapping[str, Source], stuck: Collection[DropFile] = ()
) -> set[DropFile]:
    """Let go of the files that a crash, or a busy world, kept from leaving their directory.

    Gives those that still cannot leave. With ``stuck``, only these are tried, and not said again:
    the others are the committer's.
    """
    done = [
        (file_id, file, reason if state is State.QUARANTINED else "")
        for file_id, file, state, reason in ledger.unreleased()
        if file.source in sources and (not stuck or file in stuck)
    ]
    released = let_go(sources, done, stuck)
    if released:
        ledger.release(released)
    return {file for file_id, file, _ in done if file_id not in released}


def _refuse_lost(path: Path, ledger: Ledger) -> None:
    ends = ledger.ends(str(path))
    if any(last for _, last in ends.values()):
        rows = ", ".join(f"{counted(end, 'row')} of {name}" for name, (end, _) in ends.items())
        raise BrokenInvariant(
            f"{path}: the output is gone, but the ledger says that it holds {rows}. Put it back "
            f"(or mount its disk). To begin it anew, move {ledger.path}* away: the ledger is "
            "rebuilt from the outputs that are left"
        )
    ledger.withdraw([e.file_id for e in ledger.pending(str(path))])


def _make_sound(path: Path, state: Path, said: bool, known: bool) -> None:
    """A crashed writer's file may crash HDF5: it is mended, then tried by another process."""
    # A mended file looks like any other: until it was tried, this says that it is not.
    untried = _untried(path)
    try:
        if inspect(path).healthy and not untried.exists():
            return
        level = DEBUG if said else WARNING
        event(level, "the last writer did not close the output: repairing it", output=path)
        untried.touch()
        sync_directory(path.parent)
        repairs = state / "repairs"
        repairs.mkdir(parents=True, exist_ok=True)
        repair(path, backup=repairs / f"{path.name}.json", look=False)
        problem = rehearse(path)
    except CannotRepair as error:
        raise BrokenInvariant(_broken(str(error), known)) from error
    if problem:
        raise BrokenInvariant(_broken(f"{path}: {problem}", known))
    untried.unlink()
    event(DEBUG if said else INFO, "repaired: it is sound", output=path)


def _untried(path: Path) -> Path:
    return path.with_name(f".{path.name}.untried")


def _broken(why: str, known: bool) -> str:
    """What to do about an output that ``why`` tells of; ``known``: the ledger knows rows in it."""
    if known:
        return (
            f"{why}. The output cannot be opened after the crash: move it and the ledger away and "
            "drop the archived files (done/) again"
        )
    return f"{why}. The ledger knows no rows in it: move it away, or name another output"


def _reconcile(held: Held, path: Path, ledger: Ledger) -> tuple[list[Entry], dict[str, int]]:
    """The pending files whose rows are all there, and what has to be cut."""
    output = str(path)
    pending = ledger.pending(output)
    kept = list(takewhile(lambda e: all(held.intact(p) for p in e.placements), pending))
    lost = pending[len(kept) :]
    if lost:
        ledger.withdraw([e.file_id for e in lost])
    ends = ledger.ends(output)
    cuts: dict[str, int] = {}
    for dataset in held.datasets:
        end, last = ends.pop(dataset, (0, 0))
        _check_committed(held, path, dataset, end, last)
        for entry in kept:
            for placement in entry.placements:
                if placement.dataset == dataset:
                    end, last = placement.rows.stop, entry.file_id
        if held.placed(dataset):
            end = ledger.placed(output, dataset).stop
        if held.rows(dataset) > end:
            cuts[dataset] = end
        records = held.records_up_to(dataset, last)
        if held.records(dataset) > records:
            cuts[records_path(dataset)] = records
        if held.keys(dataset) > end:
            cuts[key_path(dataset)] = end
    gone = [dataset for dataset, (_, last) in ends.items() if last]
    if gone:
        raise BrokenInvariant(_lost(path, gone[0], "the dataset is not there"))
    return kept, cuts


def _check_committed(held: Held, path: Path, dataset: str, end: int, last: int) -> None:
    count = held.records_up_to(dataset, last)
    record = held.record(dataset, count - 1) if count else None
    recorded = (
        (int(record["first_row"] + record["rows"]), int(record["file_id"]))
        if record is not None
        else (0, 0)
    )
    if recorded != (end, last) or held.rows(dataset) < end:
        found = min(recorded[0], held.rows(dataset))
        raise BrokenInvariant(_lost(path, dataset, f"it ends at row {found}"))


def _lost(path: Path, dataset: str, found: str) -> str:
    return (
        f"{path}:{dataset}: the ledger knows of committed rows, but {found}: it was replaced, or "
        "power was lost on a disk that does not keep its word. Put the right file back; or move "
        "it and the ledger away and drop the archived files (done/) again"
    )


def _recorded(held: Held, entries: list[Entry]) -> set[tuple[int, str]]:
    """Which records of ``entries`` are there, by file id and dataset."""
    wanted = [(e.file_id, p.dataset) for e in entries for p in e.placements]
    first = min((file_id for file_id, _ in wanted), default=0)
    there = {dataset: held.recorded(dataset, first) for dataset in {d for _, d in wanted}}
    return {(file_id, dataset) for file_id, dataset in wanted if file_id in there[dataset]}


def _finish(
    sink: Hdf5Sink,
    ledger: Ledger,
    output: str,
    kept: list[Entry],
    recorded: set[tuple[int, str]],
) -> None:
    """Commit the pending files whose rows are there: what is missing of their records first."""
    if not kept:
        return
    append_records(sink, kept, recorded)
    sink.flush(durable=True)
    ledger.commit([e.file_id for e in kept])
    event(INFO, "committed what the crash cut short", output=output, files=len(kept))


def _blank(sink: Hdf5Sink, dataset: str, placed: RowSet) -> None:
    """Rows in the gaps of a placed dataset that were written, and not committed, are fill again."""
    for there in sink.allocated(dataset):
        for rows in placed.missing(there.start, min(there.stop, sink.rows(dataset))):
            sink.blank(dataset, rows)


def _rows_only(cuts: Mapping[str, int]) -> dict[str, object]:
    return {
        d.strip("/").replace("/", "_"): end
        for d, end in cuts.items()
        if not d.startswith(GROUP + "/")
    }


def _adopt(held: Held, output: str, ledger: Ledger) -> None:
    """Take an output's own records into a ledger that knows nothing of it."""
    torn = held.first_torn()
    ledger.adopt(
        _entries(records[records["file_id"] < torn], dataset, output)
        for dataset in held.datasets
        for records in held.all_records(dataset)
    )
    files = sum(held.records(dataset) for dataset in held.datasets)
    if files:
        event(INFO, "took the output's records into the ledger", output=output, records=files)


def _entries(records: np.ndarray, dataset: str, output: str) -> Iterator[Entry]:
    for r in records:
        first, count = int(r["first_row"]), int(r["rows"])
        name = os.fsdecode(bytes(r["name"]))
        file = DropFile(r["source"].decode(), name, Fingerprint(-1, int(r["mtime_ns"]), -1))
        placement = Placement(dataset, RowRange(first, first + count), r["digest"].decode())
        captures = r["captures"].decode() if "captures" in (records.dtype.names or ()) else ""
        digest = r["file_digest"].decode()
        yield Entry(int(r["file_id"]), file, digest, output, (placement,), captures)
