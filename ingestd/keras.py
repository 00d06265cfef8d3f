"""Keras over an output: :class:`GrowingDataset` has more batches with each epoch."""

from __future__ import annotations

import os
from typing import Any

import keras

from ingestd.tail import View


class GrowingDataset(keras.utils.PyDataset):
    """Batches of committed rows: ``model.fit(GrowingDataset("data/iris.h5", "/X", "/y"))``.

    An epoch has the rows that were committed when it began; at its end those that came since are
    taken in. A batch is ``(x, y)``, or ``x``, NumPy arrays of ``batch_size`` rows, the last one of
    fewer. They are in the order of the file; ``fit`` shuffles the order of batches, as it does by
    default.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        x: str,
        y: str | None = None,
        *,
        batch_size: int = 32,
        **workers: Any,
    ) -> None:
        """
        :param x: the dataset of the inputs; ``y``: of the targets, filled in lockstep.
        :param workers: ``workers``, ``use_multiprocessing``, ``max_queue_size``, as of Keras.
        :raises UsageError: there are no such datasets, or they are not filled in lockstep.
        """
        super().__init__(**workers)
        self.batch_size = batch_size
        self._view = View(path)
        self._datasets = (x,) if y is None else (x, y)
        self.rows = self._view.lockstep(self._datasets)

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __getitem__(self, batch: int) -> Any:
        start = batch * self.batch_size
        rows = slice(start, min(start + self.batch_size, self.rows))
        arrays = tuple(self._view.select(name, rows) for name in self._datasets)
        return arrays if len(arrays) > 1 else arrays[0]

    def on_epoch_end(self) -> None:
        """Take in what was committed since the epoch began."""
        self.rows = self._view.lockstep(self._datasets)
