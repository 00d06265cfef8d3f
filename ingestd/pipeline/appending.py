"""The rows of one file on their way into its datasets: appended, or put where its name says.

What was written of a file that does not come to its end is taken back whole, and a row that is
there is never written over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ingestd.config import Captures, Dataset, Target
from ingestd.errors import BadFile
from ingestd.ledger import Ledger
from ingestd.model import Block, Placement, RowRange
from ingestd.rowset import RowSet
from ingestd.sinks import Sink


class Placed:
    """Which rows of placed datasets are there, by the ledger and by what it does not know yet."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows: dict[tuple[Path, str], RowSet] = {}

    def rows(self, output: Path, dataset: str) -> RowSet:
        """Those of one dataset, to look at and to add to."""
        key = output, dataset
        if key not in self._rows:
            self._rows[key] = self._ledger.placed(str(output), dataset)
        return self._rows[key]


class Appending:
    """One file's rows. ``taken`` is the dataset in which its place is taken, once that is seen:
    then nothing of it is written."""

    def __init__(
        self,
        sink: Sink,
        target: Target,
        captures: Captures,
        datasets: Collection[str],
        placed: Placed,
    ) -> None:
        """:raises BadFile: its place is none."""
        self.taken: str | None = None
        self._sink = sink
        self._target = target
        self._placed = placed
        self._extents = {path: sink.rows(path) for path in datasets}
        self._starts = {
            path: _place(path, target.datasets[path], captures, sink) for path in datasets
        }
        self._ends = dict(self._starts)  # of what the file brings
        self._written = dict(self._starts)  # of what was written of it

    def write(self, block: Block) -> int:
        """Write a block, unless a row of the file is taken; the bytes written."""
        path, start = block.dataset, self._ends[block.dataset]
        self._ends[path] = stop = start + len(block.rows)
        if self.taken is not None:
            return 0
        if not self._is_placed(path):
            self._written[path] = self._sink.append(path, block.rows).stop
        elif not self._there(path).overlaps(start, stop):
            self._written[path] = self._sink.write(path, start, block.rows).stop
        else:
            self.taken = path
            self.undo()
            return 0
        return block.rows.nbytes

    def placements(self, digests: Mapping[str, str]) -> tuple[Placement, ...]:
        """Where its rows stand, or would, if they were not taken; ``digests`` by dataset."""
        return tuple(Placement(path, self._range(path), digest) for path, digest in digests.items())

    def keep(self, placements: Collection[Placement]) -> None:
        """The file is through: its places are taken from here on."""
        for p in placements:
            if self._is_placed(p.dataset):
                self._there(p.dataset).add(p.rows.start, p.rows.stop)

    def check_same(self, placements: Collection[Placement]) -> None:
        """Rows whose place is taken are those that stand there, all of them flushed.

        :raises BadFile: they are others.
        """
        for p in placements:
            start, stop = p.rows.start, p.rows.stop
            there = self._is_placed(p.dataset) and self._there(p.dataset).covers(start, stop)
            if not there or p.digest != self._sink.digest(p.dataset, p.rows):
                raise BadFile(
                    f"rows of {p.dataset} from {start} on that are not yet there",
                    f"rows {start} to {stop - 1} of other content than what stands there, "
                    "in part at least",
                    "Look who brought those with 'ingestd trace'; a row is not written twice",
                )

    def undo(self) -> None:
        """Take back what was written."""
        if self._written == self._starts:
            return
        for path, start in self._starts.items():
            if self._is_placed(path):
                stop = min(self._written[path], self._extents[path])
                self._sink.blank(path, RowRange(start, max(start, stop)))
        grown = {p: rows for p, rows in self._extents.items() if self._sink.rows(p) > rows}
        if grown:
            self._sink.cut(grown)
        self._written = dict(self._starts)

    def _range(self, dataset: str) -> RowRange:
        start, stop = self._starts[dataset], self._ends[dataset]
        # No rows leave the extent as it is: where it ends before them, they would be missed.
        return (
            RowRange(0, 0) if start == stop and self._is_placed(dataset) else RowRange(start, stop)
        )

    def _is_placed(self, dataset: str) -> bool:
        return self._target.datasets[dataset].place_capture is not None

    def _there(self, dataset: str) -> RowSet:
        return self._placed.rows(self._target.output, dataset)


def check_places(target: Target, datasets: Collection[str], sink: Sink) -> None:
    """Rows are placed or appended as in the dataset so far: readers and recovery go by that.

    :raises BadFile: they are not.
    """
    for path in datasets:
        placed = sink.places(path) is not None
        if placed != (target.datasets[path].place_capture is not None):
            raise BadFile(
                f"rows that are {_how(placed)}, as {target.output}:{path} was begun",
                f"rows to be {_how(not placed)} (place: {target.datasets[path].place})",
                f"Set 'place' of {path} as it was, or name another dataset; then: ingestd retry",
            )


def _how(placed: bool) -> str:
    return "put at stated places" if placed else "appended"


def _place(path: str, dataset: Dataset, captures: Captures, sink: Sink) -> int:
    """The index of the first row of a file in the dataset ``path``."""
    if dataset.place_capture is None:
        return sink.rows(path)
    row, places = int(captures[dataset.place_capture]), sink.places(path)
    assert places is not None, "as check_places has seen"
    if row >= places:
        raise BadFile(
            f"a row below {places:,} to place it at ({dataset.place}), in chunks as {path} has",
            f"row {row:,}",
            "Capture a number that counts rows; a date, say, is none",
        )
    return row
