"""One output, open for reading while it may be written. What it calls committed can be read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from ingestd import layout
from ingestd.model import RowType, counted, shown
from ingestd.tail.handles import Handles, Live, identity_at
from ingestd.tail.opening import (
    PATIENCE_SECONDS,
    NoSuchDataset,
    NotAnOutput,
    NotCommitted,
    named,
)

RECORDS_AT_ONCE = 4096
"""So many records, of about 450 bytes, are held at a time."""

_TICK_NS = 50_000_000  # stamps move in ticks of 10 ms at most: one so old is of the last write


class Output:
    """An output file, opened for reading at once; a context manager.

    All that it tells is of the moment of the last :meth:`refresh`, or of the first use of the
    dataset, or later. Datasets go by their absolute path. Outputs that are open on one file in one
    process share its handles. Each is for one thread at a time. A forked child opens it anew.

    :raises Missing: there is no such file.
    :raises CannotOpen: it cannot be opened, also not on trying for ``patience_seconds``.
    :raises NotAnOutput: it is not an HDF5 file.
    """

    def __init__(
        self, path: str | os.PathLike[str], patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.path = Path(path)
        self._patience_seconds = patience_seconds
        self._handles: Handles | None = Handles.take(self.path, patience_seconds)
        self._used: dict[str, Live] = {}
        self._seen: tuple[int, int] | None = None
        self._lasts: dict[str, tuple[int, np.void | None]] = {}
        self._totals: dict[str, _Total] = {}
        self.identity = self._handles.identity

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; more than once does no harm."""
        self._used.clear()
        if self._handles is not None:
            self._handles.release()
            self._handles = None

    def __del__(self) -> None:
        # Of one that was never closed the shared handles would else stay open for good.
        handles: Handles | None = getattr(self, "_handles", None)
        if handles is not None and not sys.is_finalizing():
            handles.abandon()

    @property
    def replaced(self) -> bool:
        """Whether another file stands at the path by now: this one sees nothing new any more."""
        return identity_at(self.path) not in (None, self.identity)

    @property
    def inherited(self) -> bool:
        """Whether this is a forked child's copy, whose file is not open here yet."""
        return self._handles is not None and self._handles.inherited

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that have records; those added after the file was opened are not seen."""
        return self._open().datasets() or ()

    def check(self) -> tuple[str, ...]:
        """The same, of a file that must be an output.

        :raises NotAnOutput: it has no records at all.
        """
        there = self._open().datasets()
        if there is None:
            raise NotAnOutput(
                f"{named(self.path)}: has no group {layout.GROUP}, so ingestd did not write it "
                "and what is committed cannot be told. Read it with h5py"
            )
        return there

    def resolve(self, dataset: str | None) -> str:
        """The path of ``dataset``, which is there; for None: the only one there is.

        :raises NotAnOutput: the file has no records at all.
        :raises NoSuchDataset: it has others, or (for None) not exactly one; they are listed.
        """
        there = self.check()
        listed = ", ".join(map(shown, there)) or "none yet"
        if dataset is None:
            if len(there) != 1:
                raise NoSuchDataset(
                    f"{named(self.path)}: which dataset? It has: {listed}. "
                    f"Say it as {named(self.path)}:DATASET"
                )
            return there[0]
        path = "/" + dataset.strip("/")
        if path not in there:
            raise NoSuchDataset(f"{named(self.path)}: no dataset {shown(path)}. It has: {listed}")
        return path

    def refresh(self) -> None:
        """Look again: rows and records that the writer flushed since are seen from here on."""
        handles = self._open()
        self._seen = self._stamp()
        self._lasts.clear()
        for dataset in self._used:
            handles.refresh(dataset)

    @property
    def written(self) -> bool:
        """Whether the file was, or may have been, written since the last :meth:`refresh`."""
        return self._seen is None or self._stamp() != self._seen

    def _stamp(self) -> tuple[int, int] | None:
        """Length and time of the file; None: it may be written without a change of these."""
        status = os.fstat(self._open().fd)
        if time.time_ns() - status.st_mtime_ns < _TICK_NS:
            return None
        return status.st_size, status.st_mtime_ns

    def placed(self, dataset: str) -> bool:
        """Whether rows stand where files say (:data:`layout.PLACED`), perhaps with gaps."""
        return self._live(dataset).placed

    def last(self, dataset: str) -> tuple[int, np.void | None]:
        """Index of the last record, and the record (:data:`layout.RECORD`); (-1, None): none."""
        if dataset not in self._lasts:
            self._lasts[dataset] = _last(self._live(dataset).records)
        return self._lasts[dataset]

    def committed(self, dataset: str) -> int:
        """The end of the rows that are final. Of a placed dataset, some below may be missing."""
        if self.placed(dataset):
            return self._total(dataset).end
        return layout.committed_rows(self.last(dataset)[1])

    def count(self, dataset: str) -> int:
        """How many rows are final. Of a placed dataset, this is what records name."""
        return self._total(dataset).rows if self.placed(dataset) else self.committed(dataset)

    def _total(self, dataset: str) -> _Total:
        last, record = self.last(dataset)
        if record is None:
            return _Total(-1, None, 0, 0)
        total = self._totals.get(dataset)
        if total is None or not self.stands(dataset, total.index, total.record):
            total = _Total(-1, None, 0, 0)
        for records in self.record_blocks(dataset, total.index + 1, last + 1):
            end = max(total.end, int(records_end(records).max()))
            total = _Total(last, record, end, total.rows + int(records["rows"].sum()))
        self._totals[dataset] = total
        return total

    def stands(self, dataset: str, index: int, record: np.void | None) -> bool:
        """Whether ``record`` is still the one at ``index``: no writer took its rows back."""
        if record is None:
            return False
        now = self.records(dataset, index, index + 1)
        return len(now) == 1 and bool(now[0].tobytes() == record.tobytes())

    def records(self, dataset: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Records ``start`` to ``stop`` (None: the last), as an array of :data:`layout.RECORD`.

        Outputs of older and newer versions may lack the field ``captures``, or have more fields.
        """
        last = self.last(dataset)[0] + 1 if stop is None else stop
        return np.asarray(self._live(dataset).records[start:last])

    def locate(self, dataset: str, row: int) -> int:
        """The index of the record that names ``row``.

        It takes a few reads, however many records there are; if placed, it may read all.

        :raises NotCommitted: the row is not committed.
        """
        last, record = self.last(dataset)
        end = self.committed(dataset)
        if not 0 <= row < end:
            raise NotCommitted(
                f"{named(self.path)}:{shown(dataset)}: row {row} is not committed. "
                + (f"It has {counted(end, 'row')}, 0 to {end - 1}" if end else "No row is, yet")
            )
        if self.placed(dataset):
            return self._search(dataset, row, last + 1)
        assert record is not None
        if int(record["first_row"]) <= row:
            return last
        # The rightmost record that starts at the row or before it: of several, those to its
        # left are of files that brought no rows.
        return self.bisect(dataset, "first_row", row, last) - 1

    def bisect(self, dataset: str, field: str, value: int, stop: int) -> int:
        """The first of the records below ``stop`` whose ``field``, which rises, is > ``value``."""
        records = self._live(dataset).records
        low, high = 0, stop
        while low < high:
            middle = (low + high) // 2
            if int(records[middle][field]) <= value:
                low = middle + 1
            else:
                high = middle
        return low

    def arrival(self, dataset: str, row: int) -> tuple[int, int]:
        """The record of row ``row``, counted in order of arrival, and which of its rows it is."""
        at = 0
        for records in self.record_blocks(dataset, 0, self.last(dataset)[0] + 1):
            ends = np.cumsum(records["rows"], dtype=np.int64)
            if row < ends[-1]:
                index = int(np.searchsorted(ends, row, "right"))
                return at + index, row - int(ends[index]) + int(records["rows"][index])
            at, row = at + len(records), row - int(ends[-1])
        raise NotCommitted(f"{named(self.path)}:{shown(dataset)}: so many rows are not committed")

    def find(self, dataset: str, row: int) -> np.void:
        """The record (:data:`layout.RECORD`) that names ``row``.

        :raises NotCommitted: the row is not committed.
        """
        record = self.records(dataset, index := self.locate(dataset, row), index + 1)[0]
        assert isinstance(record, np.void)
        return record

    def extent(self, dataset: str) -> int:
        """How many rows stand in the dataset, committed or not."""
        return len(self._live(dataset).rows)

    def chunks(self, dataset: str) -> tuple[int, ...] | None:
        """The shape of a chunk; None: it is stored without."""
        chunks: tuple[int, ...] | None = self._live(dataset).rows.chunks
        return chunks

    def attributes(self, dataset: str) -> dict[str, Any]:
        """The dataset's attributes."""
        return dict(self._live(dataset).rows.attrs)

    def group_attributes(self, group: str) -> dict[str, Any]:
        """The attributes of a group, ``/`` being the file's own."""
        return dict(self._open().file[group].attrs)

    def rows(self, dataset: str, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, ``(stop - start, *row_shape)``; final below `committed`.

        :raises NotCommitted: the dataset ends before ``stop``.
        """
        rows = self._live(dataset).rows
        if not 0 <= start <= stop <= len(rows):
            raise NotCommitted(
                f"{named(self.path)}:{shown(dataset)}: rows {start} to {stop} were asked for, "
                f"the dataset has {len(rows)}"
            )
        return np.asarray(rows[start:stop])

    def row_type(self, dataset: str) -> RowType:
        """What the dataset's rows are."""
        rows = self._live(dataset).rows
        return RowType(rows.dtype, rows.shape[1:], layout.units_of(rows.attrs))

    def select(self, dataset: str, selection: tuple[Any, ...]) -> Any:
        """What h5py gives for ``selection``, which must not reach beyond what is committed."""
        return self._live(dataset).rows[selection]

    def slab_rows(self, dataset: str, slab_bytes: int) -> int:
        """How many rows to read at once: about ``slab_bytes``, whole chunks, one row at least."""
        rows = self._live(dataset).rows
        row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:], dtype=object))
        count: int = max(1, slab_bytes // max(1, row_bytes))
        if rows.chunks is None:
            return count
        # One read over many thousands of chunks takes memory for each of them.
        across = [-(-n // c) for n, c in zip(rows.shape[1:], rows.chunks[1:], strict=True)]
        chunks_max = max(1, 4096 // max(1, int(np.prod(across, dtype=object))))
        deep = min(count // int(rows.chunks[0]), chunks_max)
        return deep * int(rows.chunks[0]) if deep else count

    def record_blocks(self, dataset: str, start: int, stop: int) -> Iterator[np.ndarray]:
        """Records ``start`` to ``stop``, ``RECORDS_AT_ONCE`` or fewer at a time."""
        for at in range(start, stop, RECORDS_AT_ONCE):
            yield self.records(dataset, at, min(stop, at + RECORDS_AT_ONCE))

    def _search(self, dataset: str, row: int, stop: int) -> int:
        at = 0
        for records in self.record_blocks(dataset, 0, stop):
            (hits,) = np.nonzero((records["first_row"] <= row) & (row < records_end(records)))
            if len(hits):
                return at + int(hits[0])
            at += len(records)
        raise NotCommitted(
            f"{named(self.path)}:{shown(dataset)}: row {row} is not written yet: no file has "
            "brought it, it reads as fill value"
        )

    def _live(self, dataset: str) -> Live:
        handles = self._open()
        live = self._used.get(dataset)
        if live is None:
            self.resolve(dataset)
            live = self._used[dataset] = handles.live(dataset)
        return live

    def _open(self) -> Handles:
        if self._handles is None:
            raise ValueError(f"{named(self.path)}: closed")
        if self._handles.inherited:
            self._used.clear()
            self._lasts.clear()
            self._seen = None
            self._handles = Handles.take(self.path, self._patience_seconds)
            self.identity = self._handles.identity
        return self._handles


@dataclass(frozen=True, slots=True)
class _Total:
    """The largest end, and the sum, of rows in the records up to ``index``, which is ``record``."""

    index: int
    record: np.void | None
    end: int
    rows: int


def _last(records: h5py.Dataset) -> tuple[int, np.void | None]:
    for index in range(len(records) - 1, -1, -1):
        record = records[index]
        # The extent may grow a moment before the record is there; then it holds zeros.
        if record["committed_ns"]:
            return index, record
    return -1, None


def records_end(records: np.ndarray) -> np.ndarray:
    """The row after the last of each record."""
    return np.asarray(records["first_row"] + records["rows"], np.int64)
