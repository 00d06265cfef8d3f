"""``ingestd.open``: committed rows of an output by their number, as h5py would give them.

Every access sees what is committed at that moment; rows once seen stay.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from ingestd.errors import UsageError
from ingestd.model import RowType, shown
from ingestd.tail.audit import Origin, origin
from ingestd.tail.files import Files
from ingestd.tail.opening import CannotOpen, CutBack, Missing, NoSuchDataset, named
from ingestd.tail.output import Output
from ingestd.tail.selection import selected
from ingestd.tail.slabs import SLAB_BYTES

_QUIET_NS = 2_000_000_000
"""A file that was not written for so long is not about to change: trying again does not help."""

_PAUSE_SECONDS = 0.02

_PASSING = (OSError, RuntimeError, KeyError, CutBack, CannotOpen)

T = TypeVar("T")


def open_view(path: str | os.PathLike[str], *, patience_seconds: float = 10.0) -> View:
    """The output at ``path``, for random access: ``ingestd.open(path)["/entry/data"][10:20]``.

    What may be passing (a writer is opening the file anew) is tried again for
    ``patience_seconds``.

    :raises Missing: there is no such file.
    :raises CannotOpen: HDF5 cannot open it.
    :raises NotAnOutput: it is not one of ingestd's.
    """
    return View(path, patience_seconds)


class View:
    """The datasets of an output, by path; a context manager.

    It looks again by itself, when the file was written or replaced since it looked last. Threads
    may share it; a forked child opens the file anew. It pickles, as its path.
    """

    def __init__(self, path: str | os.PathLike[str], patience_seconds: float = 10.0) -> None:
        self.path = Path(path)
        self._patience_seconds = patience_seconds
        self._begin()
        self.work(lambda output: output.check())

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._output: Output | None = None
        self._ends: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. A later access opens it again."""
        with self._locked():
            if self._output is not None:
                self._output.close()
            self._output = None

    def __getitem__(self, dataset: str) -> Rows:
        """The rows of ``dataset``.

        :raises NoSuchDataset: it has others; they are listed.
        """
        return Rows(self, self.work(lambda output: output.resolve(dataset)))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The paths of the datasets."""
        self.close()  # those added since are seen only by those who open the file anew
        return self.work(lambda output: output.datasets)

    def __iter__(self) -> Iterator[str]:
        return iter(self.datasets)

    def __contains__(self, dataset: str) -> bool:
        return "/" + dataset.strip("/") in self.datasets

    def __repr__(self) -> str:
        return f"<ingestd.open({str(self.path)!r})>"

    def __reduce__(self) -> Any:
        return View, (self.path, self._patience_seconds)

    def trace(self, dataset: str, row: int) -> Origin:
        """The drop file that ``row`` came from; -1 is the last row.

        :raises NotCommitted: the row is not committed.
        """

        def find(output: Output) -> Origin:
            name = output.resolve(dataset)
            return origin(output, name, row if row >= 0 else row + output.committed(name))

        return self.work(find)

    def files(self, dataset: str) -> Files:
        """The drop files that ``dataset`` was made of, in the order of their commit."""
        return self.work(lambda output: Files(output.records(output.resolve(dataset))))

    def end(self, dataset: str) -> int:
        """How many rows ``dataset`` has."""

        def count(output: Output) -> int:
            if dataset not in self._ends:
                self._ends[dataset] = output.committed(dataset)
            return self._ends[dataset]

        return self.work(count)

    def placed(self, dataset: str) -> bool:
        """Whether the rows of ``dataset`` stand where files say, perhaps with gaps."""
        return self.work(lambda output: output.placed(output.resolve(dataset)))

    def lockstep(self, datasets: Sequence[str]) -> int:
        """How many rows all of ``datasets`` have, of which row n of one belongs to row n of all.

        One of them may have more, if a file was committed while we looked.

        :raises UsageError: they are not filled in lockstep, as files bring more rows to one.
        """
        ends = {dataset: self.end(dataset) for dataset in datasets}
        end = min(ends.values())
        if end and max(ends.values()) > end:
            # Files are committed in all of their datasets, so there is one that ends here in each.
            last = {dataset: self.trace(dataset, end - 1) for dataset in datasets}
            if len({(origin.file_id, origin.rows.stop) for origin in last.values()}) > 1:
                raise UsageError(
                    f"{named(self.path)}: row {end - 1} is of another file, or of another row of "
                    f"it, in some of {', '.join(map(shown, datasets))}: they have no common rows. "
                    "Open them one by one"
                )
        return end

    def select(self, dataset: str, selection: Any) -> Any:
        """What stands at ``selection`` of the rows that are committed."""

        def read(output: Output) -> Any:
            asked = selected(selection, self.end(dataset), len(output.row_type(dataset).row_shape))
            index, record = output.last(dataset)
            rows = output.select(dataset, asked.stored)
            if record is not None and output.written:
                output.refresh()
                if not output.stands(dataset, index, record):
                    raise CutBack(f"{named(self.path)}:{shown(dataset)}: rows were taken back")
            return asked.of(rows)

        return self.work(read)

    def work(self, what: Callable[[Output], T]) -> T:
        """``what`` of the output as it is now, tried again while the file is being written."""
        deadline = time.monotonic() + self._patience_seconds
        anew = False
        while True:
            with self._locked():
                try:
                    return what(self._current())
                except NoSuchDataset:
                    # One that was added since is seen only by those who open the file anew.
                    if anew:
                        raise
                    anew = True
                    self.close()
                    continue
                except Missing:
                    raise
                except _PASSING:
                    if time.monotonic() >= deadline or self._is_quiet():
                        raise
                    self.close()
            time.sleep(_PAUSE_SECONDS)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._pid != os.getpid():
            self._begin()  # the lock may be held by a thread of the parent
        with self._lock:
            yield

    def _current(self) -> Output:
        if self._output is not None and self._output.replaced:
            self.close()
        if self._output is None:
            self._output = Output(self.path, patience_seconds=0)
        elif not self._output.written:
            return self._output
        self._output.refresh()
        self._ends.clear()
        return self._output

    def _is_quiet(self) -> bool:
        """Whether nobody has written the file for a while."""
        return time.time_ns() - self.path.stat().st_mtime_ns > _QUIET_NS


class Rows:
    """The committed rows of one dataset: like an ``h5py.Dataset`` that is read only, and grows.

    Of a placed dataset those that no file has brought yet are its fill value.
    """

    def __init__(self, view: View, name: str) -> None:
        self.view = view
        self.name = name

    def __len__(self) -> int:
        return self.view.end(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(rows, *row_shape)``"""
        return len(self), *self._type.row_shape

    @property
    def dtype(self) -> np.dtype:
        """Of one value."""
        return self._type.dtype

    @property
    def ndim(self) -> int:
        """1 for rows of one value."""
        return 1 + len(self._type.row_shape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """The shape of a chunk."""
        return self.view.work(lambda output: output.chunks(self.name))

    @property
    def attrs(self) -> dict[str, Any]:
        """A copy of the attributes."""
        return self.view.work(lambda output: output.attributes(self.name))

    @property
    def files(self) -> Files:
        """The drop files that the rows came from."""
        return self.view.files(self.name)

    def trace(self, row: int) -> Origin:
        """The drop file that ``row`` came from."""
        return self.view.trace(self.name, row)

    def __getitem__(self, selection: Any) -> Any:
        """As of h5py; along the rows, indices may also repeat and come in any order.

        :raises IndexError: it reaches beyond what is committed.
        """
        return self.view.select(self.name, selection)

    def __iter__(self) -> Iterator[Any]:
        step = self.view.work(lambda output: output.slab_rows(self.name, SLAB_BYTES))
        end = len(self)
        for start in range(0, end, step):
            yield from self[start : min(start + step, end)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows are read from a file, so they cannot be had without a copy")
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<rows {self.name!r}: shape {self.shape}, type {self.dtype.str!r}>"

    @cached_property
    def _type(self) -> RowType:
        return self.view.work(lambda output: output.row_type(self.name))
