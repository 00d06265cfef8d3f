"""PyTorch datasets over an output: :class:`TailDataset` as it grows, :class:`RowDataset` as it is.

They hand out committed rows only, pickle as the file's path, and open the file anew in each
worker of a ``DataLoader``, whether it is forked or spawned. A row goes to one worker.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import data

from ingestd.errors import UsageError
from ingestd.model import shown
from ingestd.tail import Missing, NoSuchDataset, Replaced, View
from ingestd.tail.live import Stop, is_stopped

_PAUSE_SECONDS = 0.02

_BLOCK_BYTES = 1 << 20


class RowDataset(data.Dataset[Any]):
    """The rows that are committed now: ``len(dataset)``, ``dataset[i]``; a snapshot.

    A sample is one row as a tensor; of several ``datasets`` in lockstep a tuple of them; of
    compound rows a dict of tensors by field. :meth:`refresh` takes in what was committed since.
    """

    def __init__(self, path: str | os.PathLike[str], datasets: str | Sequence[str]) -> None:
        """:raises UsageError: there are no such datasets, or they are not filled in lockstep."""
        self._view = View(path)
        self._samples = _Samples(datasets)
        self._length = self._view.lockstep(self._samples.datasets)

    def __len__(self) -> int:
        return self._length

    def refresh(self) -> int:
        """See rows that were committed since; how many there are now.

        Workers have what it was at their start: call it between epochs, and make the loader
        without ``persistent_workers``.
        """
        self._length = self._view.lockstep(self._samples.datasets)
        return self._length

    def __getitem__(self, row: int) -> Any:
        """The sample of row ``row``; negative: from the end."""
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        """The samples of several rows, in one read: a ``DataLoader`` asks for a batch like this."""
        wanted = np.asarray(rows, np.int64)
        wanted = np.where(wanted < 0, wanted + self._length, wanted)
        if ((wanted < 0) | (wanted >= self._length)).any():
            raise IndexError(
                f"of rows {list(rows)} some are not among the {self._length} there are"
            )
        return list(self._samples.read(self._view, wanted))


class TailDataset(data.IterableDataset[Any]):
    """Rows as they are committed, from ``start`` on, each to one worker of a ``DataLoader``.

    A sample is as of :class:`RowDataset`. Blocks of ``block_rows`` rows go to the workers in
    turn: row r is of worker ``r // block_rows % num_workers``, who hands it out as soon as it is
    committed. Each worker's rows are in order. A loader takes batches from its workers in turn,
    and waits for one that has no rows yet, unless it is made with ``in_order=False``.

    The file, or the datasets, need not be there yet. Iterating raises:

    :raises UsageError: rows are placed, or the datasets are not filled in lockstep.
    :raises Replaced: another file took the place of this one, with other rows.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        datasets: str | Sequence[str],
        start: int = 0,
        *,
        timeout: float | None = None,
        stop: Stop | None = None,
        block_rows: int | None = None,
    ) -> None:
        """
        :param timeout: end if nothing was committed for so many seconds; None: never.
        :param stop: end when this is true, or set. For workers that are spawned it has to pickle.
        :param block_rows: None: whole chunks of the first dataset, about 1 MiB.
        """
        if start < 0 or (block_rows is not None and block_rows < 1):
            raise ValueError(f"start={start}, block_rows={block_rows}: must be 0, and 1, or more")
        self._path = path
        self._samples = _Samples(datasets)
        self._start = start
        self._timeout = timeout
        self._stop = stop
        self._block_rows = block_rows

    def __iter__(self) -> Iterator[Any]:
        worker = data.get_worker_info()
        mine, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        growing = _Growing(self._path, self._samples.datasets, self._timeout, self._stop)
        if growing.beyond(self._start) is None:
            return
        step = self._block_rows or growing.whole_chunks()
        for block in itertools.count(self._start // step):
            if block % workers != mine:
                continue
            at, stop = max(self._start, block * step), (block + 1) * step
            while at < stop:
                end = growing.beyond(at)
                if end is None:
                    return
                rows = slice(at, min(stop, end))
                yield from self._samples.read(growing.view, rows)
                at = rows.stop


class _Growing:
    """How far the datasets have come, as one reader waits for them."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        datasets: tuple[str, ...],
        timeout: float | None,
        stop: Stop | None,
    ) -> None:
        self._path = path
        self._datasets = datasets
        self._timeout = timeout
        self._stop = stop
        self._parent = os.getppid()
        self._view: View | None = None
        self._identity: Any = None
        self._first = ""
        self._end = 0
        self._grew = time.monotonic()

    @property
    def view(self) -> View:
        """The file, once it was there."""
        assert self._view is not None
        return self._view

    def whole_chunks(self) -> int:
        """How many rows of the first dataset make about 1 MiB, in whole chunks."""
        return self.view.work(lambda output: output.slab_rows(self._datasets[0], _BLOCK_BYTES))

    def beyond(self, row: int) -> int | None:
        """The end of the rows, as soon as there are more than ``row``; None: it is time to end."""
        while True:
            # Of what was stopped, or waited for in vain, nothing more is handed out.
            if self._is_over():
                return None
            end, now = self._look(), time.monotonic()
            if end > self._end:
                self._grew = now
            self._end = end
            if end > row:
                return end
            if self._timeout is not None and now - self._grew >= self._timeout:
                return None
            time.sleep(_PAUSE_SECONDS)

    def _is_over(self) -> bool:
        # A worker whose loader died would wait for ever here.
        return os.getppid() != self._parent or is_stopped(self._stop)

    def _look(self) -> int:
        try:
            if self._view is None:
                self._view = View(self._path)
                self._refuse_placed(self._view)
            end = self._view.lockstep(self._datasets)
        except (Missing, NoSuchDataset):
            return self._end if self._view is not None else 0
        if end:
            self._check_is_the_same(self._view)
        return end

    def _refuse_placed(self, view: View) -> None:
        for name in self._datasets:
            if view.placed(name):
                raise UsageError(
                    f"{shown(str(view.path))}:{shown(name)}: its rows are placed by the names of "
                    "their files, so they come in any order. Use ingestd.open_tail, or RowDataset"
                )

    def _check_is_the_same(self, view: View) -> None:
        identity = view.work(lambda output: output.identity)
        if identity == self._identity:
            return
        first = view.trace(self._datasets[0], 0).rows_digest
        if self._first not in ("", first):
            raise Replaced(
                f"{shown(str(view.path))}: it was replaced by a file that begins with other rows. "
                "Start over, with start=0"
            )
        self._identity, self._first = identity, first


class _Samples:
    """What is read of rows, and how a sample is made of it."""

    def __init__(self, datasets: str | Sequence[str]) -> None:
        self._single = isinstance(datasets, str)
        names = (datasets,) if isinstance(datasets, str) else tuple(datasets)
        if not names:
            raise UsageError("no dataset is named, so there is nothing to read")
        self.datasets = tuple("/" + name.strip("/") for name in names)

    def read(self, view: View, rows: slice | np.ndarray) -> Iterator[Any]:
        """The samples of ``rows``, which are committed."""
        columns = [_split(view.select(name, rows)) for name in self.datasets]
        return iter(columns[0]) if self._single else zip(*columns, strict=True)


def _split(rows: np.ndarray) -> list[Any]:
    """Each of the rows as a tensor, or as a dict of tensors by field."""
    if rows.dtype.names is None:
        # PyTorch has no foreign byte order.
        return list(torch.from_numpy(np.ascontiguousarray(rows, rows.dtype.newbyteorder("="))))
    fields = {name: _split(rows[name]) for name in rows.dtype.names}
    return [dict(zip(fields, row, strict=True)) for row in zip(*fields.values(), strict=True)]
