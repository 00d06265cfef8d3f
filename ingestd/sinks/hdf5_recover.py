"""What an HDF5 output holds after a crash, read without changing it, and what to cut from it."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from ingestd import layout
from ingestd.model import Placement
from ingestd.sinks.hdf5 import rows_digest
from ingestd.sinks.hdf5_filters import need_filters

_RECORDS_AT_ONCE = 4096


class Held:
    """A sound, closed output, open for reading: its datasets, their rows and records."""

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path, "r", locking=False)
        self.datasets: list[str] = []
        self._readable: dict[str, h5py.Dataset] = {}
        self.ours = layout.GROUP in self._file
        if self.ours:
            self._file[layout.GROUP].visititems(self._visit)

    def _visit(self, name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and layout.is_records(name):
            self.datasets.append(layout.dataset_path(f"{layout.GROUP}/{name}"))

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def placed(self, dataset: str) -> bool:
        """Whether the rows of ``dataset`` stand where their files' names say."""
        return layout.PLACED in self._file[layout.records_path(dataset)].attrs

    def rows(self, dataset: str) -> int:
        """The extent of ``dataset``."""
        return int(self._file[dataset].shape[0])

    def keys(self, dataset: str) -> int:
        """How many keys ``dataset`` has; none, if it is not one with keys."""
        path = layout.key_path(dataset)
        return int(self._file[path].shape[0]) if path in self._file else 0

    def records(self, dataset: str) -> int:
        """How many records ``dataset`` has."""
        return int(self._file[layout.records_path(dataset)].shape[0])

    def records_up_to(self, dataset: str, file_id: int) -> int:
        """How many records of ``dataset`` are of files up to ``file_id``; ids rise."""
        records = self._file[layout.records_path(dataset)]
        return bisect.bisect_right(
            range(records.shape[0]), file_id, key=lambda i: int(records[i]["file_id"])
        )

    def recorded(self, dataset: str, file_id: int) -> set[int]:
        """The ids of the files from ``file_id`` on that have a record in ``dataset``."""
        first = self.records_up_to(dataset, file_id - 1)
        return set(self._file[layout.records_path(dataset)][first:]["file_id"].tolist())

    def record(self, dataset: str, index: int) -> np.void:
        """One record."""
        found: np.void = self._file[layout.records_path(dataset)][index]
        return found

    def all_records(self, dataset: str) -> Iterator[np.ndarray]:
        """The records of ``dataset`` (layout.RECORD), a few thousand at a time."""
        records = self._file[layout.records_path(dataset)]
        for start in range(0, records.shape[0], _RECORDS_AT_ONCE):
            yield records[start : start + _RECORDS_AT_ONCE]

    def first_torn(self) -> int:
        """The id of the first file whose records or rows are not in all of its datasets.

        From it on, all were being written when the writer died: none was committed.
        """
        ids, due = [np.empty(0, "u8")], [np.empty(0, "u4")]
        torn = np.iinfo("i8").max
        for dataset in self.datasets:
            for records in self.all_records(dataset):
                ids.append(records["file_id"])
                due.append(records["datasets"])
                beyond = records["first_row"] + records["rows"] > self.rows(dataset)
                torn = min([torn, *map(int, records["file_id"][beyond])])
        _, index, count = np.unique(np.concatenate(ids), return_index=True, return_counts=True)
        short = count < np.concatenate(due)[index]
        return min([torn, *map(int, np.concatenate(ids)[index][short])])

    def intact(self, placement: Placement) -> bool:
        """Whether the rows of ``placement`` are there, byte for byte."""
        if placement.dataset not in self.datasets:
            return False
        if self.rows(placement.dataset) < placement.rows.stop:
            return False
        # There may be thousands of files to ask for.
        dataset = self._readable.get(placement.dataset)
        if dataset is None:
            dataset = self._readable[placement.dataset] = self._file[placement.dataset]
            need_filters(dataset.id)
        return rows_digest(dataset, placement.rows) == placement.digest


def remove_leftovers(path: Path) -> None:
    """Remove what a crash left of an output that was being made."""
    for name in (f".{path.name}.part", f".{path.name}.edit.part"):
        leftover = path.with_name(name)
        if os.path.lexists(leftover):
            leftover.unlink()
