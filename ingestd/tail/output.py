"""One output, open for reading while it may be written. What it calls committed can be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import h5py
import numpy as np

from ingestd import layout
from ingestd.model import RowType, shown
from ingestd.tail.handles import Handles, identity_at
from ingestd.tail.opening import (
    PATIENCE_SECONDS,
    NoSuchDataset,
    NotAnOutput,
    NotCommitted,
    named,
)


class Output:
    """An output file, opened for reading at once; a context manager.

    All that it tells is of the moment of the last :meth:`refresh`, or of the first use of the
    dataset, or later. Datasets go by their absolute path. Outputs that are open on one file in one
    process share its handles. Each is for one thread at a time.

    :raises Missing: there is no such file.
    :raises CannotOpen: it cannot be opened, also not on trying for ``patience_seconds``.
    :raises NotAnOutput: it is not an HDF5 file.
    """

    def __init__(
        self, path: str | os.PathLike[str], patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.path = Path(path)
        self._handles: Handles | None = Handles.take(self.path, patience_seconds)
        self._used: dict[str, tuple[h5py.Dataset, h5py.Dataset]] = {}
        self._file: h5py.File = self._handles.file
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

    @property
    def replaced(self) -> bool:
        """Whether another file stands at the path by now: this one sees nothing new any more."""
        return identity_at(self.path) not in (None, self.identity)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that have records; those added after the file was opened are not seen."""
        found: list[str] = []

        def visit(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset) and name.endswith("/files"):
                found.append(layout.dataset_path(f"{layout.GROUP}/{name}"))

        if layout.GROUP in self._file:
            self._file[layout.GROUP].visititems(visit)
        return tuple(sorted(found))

    def resolve(self, dataset: str | None) -> str:
        """The path of ``dataset``, which is there; for None: the only one there is.

        :raises NotAnOutput: the file has no records at all.
        :raises NoSuchDataset: it has others, or (for None) not exactly one; they are listed.
        """
        if layout.GROUP not in self._file:
            raise NotAnOutput(
                f"{named(self.path)}: has no group {layout.GROUP}, so ingestd did not write it "
                "and what is committed cannot be told. Read it with h5py"
            )
        there = self.datasets
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
        """Look again: rows and records that the writer flushed since are seen from here on.

        :raises OtherHandle: a dataset in use is open in this process by other means too.
        """
        for dataset in self._used:
            self._live().refresh(dataset)

    def last(self, dataset: str) -> tuple[int, np.void | None]:
        """Index of the last record, and the record (:data:`layout.RECORD`); (-1, None): none."""
        records = self._pair(dataset)[0]
        for index in range(len(records) - 1, -1, -1):
            record = records[index]
            # The extent may grow a moment before the record is there; then it holds zeros.
            if record["committed_ns"]:
                return index, record
        return -1, None

    def committed(self, dataset: str) -> int:
        """How many rows of the dataset are final."""
        return layout.committed_rows(self.last(dataset)[1])

    def records(self, dataset: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Records ``start`` to ``stop`` (None: the last), as an array of :data:`layout.RECORD`."""
        last = self.last(dataset)[0] + 1 if stop is None else stop
        return np.asarray(self._pair(dataset)[0][start:last])

    def locate(self, dataset: str, row: int) -> int:
        """The index of the record that names ``row``, in a few reads, however many there are.

        :raises NotCommitted: the row is not committed.
        """
        last, record = self.last(dataset)
        end = layout.committed_rows(record)
        if not 0 <= row < end:
            raise NotCommitted(
                f"{named(self.path)}:{shown(dataset)}: row {row} is not committed. "
                + (f"There are {end} rows, 0 to {end - 1}" if end else "No row is, yet")
            )
        assert record is not None
        if int(record["first_row"]) <= row:
            return last
        # The rightmost record that starts at the row or before it: of several, those to its
        # left are of files that brought no rows.
        records = self._pair(dataset)[0]
        low, high = 0, last
        while high - low > 1:
            middle = (low + high) // 2
            if int(records[middle]["first_row"]) <= row:
                low = middle
            else:
                high = middle
        return low

    def find(self, dataset: str, row: int) -> np.void:
        """The record (:data:`layout.RECORD`) that names ``row``.

        :raises NotCommitted: the row is not committed.
        """
        record = self.records(dataset, index := self.locate(dataset, row), index + 1)[0]
        assert isinstance(record, np.void)
        return record

    def extent(self, dataset: str) -> int:
        """How many rows stand in the dataset, committed or not."""
        return len(self._pair(dataset)[1])

    def rows(self, dataset: str, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, ``(stop - start, *row_shape)``; final below `committed`.

        :raises NotCommitted: the dataset ends before ``stop``.
        """
        rows = self._pair(dataset)[1]
        if not 0 <= start <= stop <= len(rows):
            raise NotCommitted(
                f"{named(self.path)}:{shown(dataset)}: rows {start} to {stop} were asked for, "
                f"the dataset has {len(rows)}"
            )
        return np.asarray(rows[start:stop])

    def row_type(self, dataset: str) -> RowType:
        """What the dataset's rows are."""
        rows = self._pair(dataset)[1]
        return RowType(rows.dtype, rows.shape[1:], layout.units_of(rows.attrs))

    def slab_rows(self, dataset: str, slab_bytes: int) -> int:
        """How many rows to read at once: about ``slab_bytes``, whole chunks, one row at least."""
        rows = self._pair(dataset)[1]
        row_bytes = rows.dtype.itemsize * int(np.prod(rows.shape[1:], dtype=object))
        count: int = max(1, slab_bytes // max(1, row_bytes))
        if rows.chunks is None:
            return count
        # One read over many thousands of chunks takes memory for each of them.
        across = [-(-n // c) for n, c in zip(rows.shape[1:], rows.chunks[1:], strict=True)]
        chunks_max = max(1, 4096 // max(1, int(np.prod(across, dtype=object))))
        deep = min(count // int(rows.chunks[0]), chunks_max)
        return deep * int(rows.chunks[0]) if deep else count

    def _pair(self, dataset: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        pair = self._used.get(dataset)
        if pair is None:
            self.resolve(dataset)
            pair = self._used[dataset] = self._live().pair(dataset)
        return pair

    def _live(self) -> Handles:
        if self._handles is None:
            raise ValueError(f"{named(self.path)}: closed")
        return self._handles
