"""Reads an output block by block, whatever happens to it meanwhile. Each committed row once.

Writers may die, start again, cut back what was not committed, or not be there yet; the file may be
moved, copied or replaced. What :meth:`Reader.look` gives is final.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np

from ingestd.errors import IngestdError, UsageError
from ingestd.model import RowRange, shown
from ingestd.tail.bell import Bell
from ingestd.tail.files import Files
from ingestd.tail.opening import (
    CannotOpen,
    CutBack,
    Missing,
    NoSuchDataset,
    NotCommitted,
    Replaced,
    named,
)
from ingestd.tail.output import Output
from ingestd.tail.position import Position, fingerprint
from ingestd.tail.seek import seek
from ingestd.tail.slabs import SLAB_BYTES
from ingestd.tail.window import Window, next_files

Start = int | Literal["start", "end"] | Position
"""A row, -N for the last N, all, what is yet to come, or where another reader was."""

_PASSING = (OSError, RuntimeError, KeyError, CutBack, NotCommitted)
"""What reading raises while the metadata is being written, or the file is cut."""

R = TypeVar("R", np.ndarray, dict[str, np.ndarray])


@dataclass(frozen=True, slots=True, eq=False)
class Block(Generic[R]):
    """Rows ``start`` up to, not including, ``stop``, all final; ``(stop - start, *row_shape)``.

    ``files`` are the drop files that they came from, in order. ``position`` is where to go on
    after this block. Of datasets in lockstep ``rows`` and ``ranges`` go by dataset, ``start`` and
    ``stop`` are the first one's.
    """

    rows: R
    ranges: dict[str, RowRange]
    files: Files
    position: Position

    @property
    def start(self) -> int:
        """The first row."""
        return next(iter(self.ranges.values())).start

    @property
    def stop(self) -> int:
        """The row after the last."""
        return next(iter(self.ranges.values())).stop

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class How:
    """What makes a block: see :func:`ingestd.open_tail`."""

    whole_files: bool = True
    max_rows: int | None = None
    patience_seconds: float = 10.0


class Reader:
    """Where we are in some datasets, over all the handles that it takes to stay there.

    Who has got a block moves ``position`` to the block's; till then :meth:`look` gives it again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        datasets: tuple[str, ...] | None,
        start: Start,
        how: How,
        bell: Bell,
    ) -> None:
        self._path = path
        self._wanted = datasets
        self._how = how
        self._bell = bell
        self._output: Output | None = None
        # Until the output is there, and long enough, where to start is not known.
        self.position: Start = start
        self._window: Window | None = None
        self._window_at: Position | None = None
        self._steps: list[int] = []  # rows of about SLAB_BYTES, by dataset
        self._known = False  # that the output is the one that was read so far
        self._trouble_since: float | None = None
        self.refused: CannotOpen | None = None  # why the file, which is there, does not open

    def close(self) -> None:
        """Let go of the file; a later look opens it again."""
        if self._output is not None:
            self._output.close()
        self._output, self._window, self._known, self._steps = None, None, False, []

    def look(self) -> Block[dict[str, np.ndarray]] | None:
        """The next rows; None: there are none now. Also while the world is in between."""
        try:
            block = self._looked()
        except (CannotOpen, *_PASSING) as error:
            if isinstance(error, CannotOpen) and self._output is not None:
                raise  # the file is open: it is a filter that is not there
            self.close()
            self.refused = error if isinstance(error, CannotOpen) else None
            self._wait_out(error)
            return None
        self._trouble_since = self.refused = None
        return block

    @property
    def trouble_seconds(self) -> float:
        """For how long reading has failed."""
        since = self._trouble_since
        return 0.0 if since is None else time.monotonic() - since

    def _wait_out(self, error: Exception) -> None:
        now = time.monotonic()
        self._trouble_since = self._trouble_since or now
        if now - self._trouble_since < self._how.patience_seconds:
            return
        if isinstance(error, CannotOpen):
            raise error
        where = shown(os.fspath(self._path))
        raise IngestdError(
            f"{where}: cannot be read: {error}. Look at it with: ingestd verify {where}"
        ) from error

    def _looked(self) -> Block[dict[str, np.ndarray]] | None:
        output = self._attached()
        if output is None:
            if not isinstance(self.position, Position):
                self.position = 0 if isinstance(self.position, str) else max(0, self.position)
            return None
        if not self._window or self._window_at is not self.position:
            output.refresh()
            position = self._settled(output)
            if position is None:
                return None
            self._window, self._window_at = next_files(output, position), position
        while self._window:
            block = self._next(output, self._window)
            if block is not None:
                return block
        return None

    def _attached(self) -> Output | None:
        """The output that now stands at the path, if it has the datasets."""
        if self._output is not None and (self._output.inherited or self._output.replaced):
            self.close()
        if self._output is not None:
            return self._output
        try:
            output = Output(self._path, patience_seconds=0)
        except Missing:
            self._bell.close()
            return None
        self._bell.hang(output.path, output.identity)
        try:
            wanted: tuple[str | None, ...] = self._wanted or (None,)
            datasets = tuple(map(output.resolve, wanted))
        except NoSuchDataset:
            many = self._wanted is None and output.datasets
            # A dataset that is added later is seen only by those who open the file later.
            output.close()
            if many:
                raise
            return None
        except BaseException:
            output.close()
            raise
        self._output, self._wanted = output, datasets
        return output

    def _settled(self, output: Output) -> Position | None:
        """Where we are in this output; None: that is not there (yet)."""
        assert self._wanted is not None
        if not isinstance(self.position, Position):
            found = seek(output, self._wanted, self.position)
            if found is None:
                return None
            self.position = found
        if self.position.datasets != self._wanted:
            raise UsageError(
                f"{named(output.path)}: the position is of {', '.join(self.position.datasets)}, "
                f"not of {', '.join(self._wanted)}. Open the same datasets, in the same order"
            )
        position = self.position
        if self._is_there(output, position):
            return position
        return None if self.position is position else self._settled(output)

    def _is_there(self, output: Output, position: Position) -> bool:
        """Whether the output holds what was read. If it is another one, we start over."""
        for dataset, touched, first, last in zip(
            position.datasets, position.touched, position.first, position.last, strict=True
        ):
            if not touched:
                continue
            index, newest = output.last(dataset)
            if newest is None:
                return False
            if not self._known and fingerprint(output.records(dataset, 0, 1)[0]) != first:
                self.position = Position.start_of(position.datasets)
                return False
            if index < touched - 1:
                return False  # what was taken back may come again
            if index > touched - 1:
                newest = output.records(dataset, touched - 1, touched)[0]
            if fingerprint(newest) != last:
                raise Replaced(
                    f"{named(output.path)}:{shown(dataset)}: other rows stand where rows were read "
                    "before; was it restored from a copy? Start over, with start=0"
                )
        self._known = True
        return True

    def _next(self, output: Output, window: Window) -> Block[dict[str, np.ndarray]] | None:
        """The rows of the next files of ``window``; None: these files have none."""
        assert self._window_at is not None
        position, skip = self._window_at, self._window_at.rows
        files, rows = self._share(output, window, skip)
        used = files + (rows is not None)
        ranges = {}
        read = window.rows[:, used - 1] if rows is None else rows
        stops = window.first[:, used - 1] + read
        for dataset, first, stop in zip(position.datasets, window.first[:, 0], stops, strict=True):
            ranges[dataset] = RowRange(int(first) + skip, int(stop))
        after = self._moved(output, position, window, files, rows or 0)
        block = None
        if any(len(r) for r in ranges.values()):
            found = {name: output.rows(name, r.start, r.stop) for name, r in ranges.items()}
            self._check_not_cut(output, window, used)
            block = Block(found, ranges, Files(window.records[0][:used]), after)
        self._window, self._window_at = window.after(files), after
        return block

    def _share(self, output: Output, window: Window, skip: int) -> tuple[int, int | None]:
        """How many files to read to their end, and up to which row the one after them, if any."""
        how = self._how
        if not self._steps:
            self._steps = [output.slab_rows(d, SLAB_BYTES) for d in self._wanted or ()]
        step = min(self._steps)
        most = min(step, how.max_rows or step)
        run = window.run()
        # Rows up to the end of each file, of the dataset that has most.
        ends = np.cumsum(window.rows[:, :run], axis=1).max(axis=0) - skip
        files = int(np.searchsorted(ends, most, "right"))
        if how.whole_files or len(window.records) > 1:
            if files:
                return files, None
            limit = how.max_rows if how.whole_files else most
            if limit is None or ends[0] <= limit or not window.even:
                return 1, None
            return 0, skip + limit
        # Whole chunks, unless the rows end before.
        start = int(window.first[0, 0]) + skip
        stop = min((start // most + 1) * most - start, int(ends[-1]))
        files = int(np.searchsorted(ends, stop, "right"))
        before = int(ends[files - 1]) if files else -skip
        return files, (stop - before if stop > before and files < run else None)

    def _moved(
        self, output: Output, position: Position, window: Window, files: int, rows: int
    ) -> Position:
        """The position after ``files`` of ``window``, and ``rows`` of the one after them."""
        first, last, counts = [], [], []
        at = files - 1 + bool(rows)
        for d, (records, index) in enumerate(zip(window.records, window.index, strict=True)):
            counts.append(int(index[at]) + (not rows))
            last.append(fingerprint(records[at]))
            known = position.first[d]
            first.append(known or fingerprint(output.records(position.datasets[d], 0, 1)[0]))
        return Position(position.datasets, tuple(counts), rows, tuple(first), tuple(last))

    def _check_not_cut(self, output: Output, window: Window, used: int) -> None:
        # A starting writer cuts what its ledger does not know, the last committed file perhaps.
        # Rows read meanwhile may be fill values: they count only if their record still stands.
        if not output.written:
            return
        output.refresh()
        for dataset, records, index in zip(
            self._wanted or (), window.records, window.index, strict=True
        ):
            if not output.stands(dataset, int(index[used - 1]), records[used - 1]):
                raise CutBack(f"{named(output.path)}:{shown(dataset)}: rows were taken back")
