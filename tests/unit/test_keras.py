"""Keras over an output: each epoch has the rows that were committed when it began."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from outputs import make_output

from ingestd.errors import UsageError

pytest.importorskip("torch", reason="pip install torch, the back end that Keras runs on here")


@pytest.fixture(autouse=True, scope="module")
def back_end() -> None:
    """Keras chooses its back end when it is imported first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        pytest.importorskip("keras", reason="pip install 'ingestd[keras]'")


def make_xy(path: Path, *files: int) -> Path:
    return make_output(make_output(path, list(files), "/X"), list(files), "/y")


def test_batches_are_rows_in_order_the_last_one_of_fewer(tmp_path: Path) -> None:
    from ingestd.keras import GrowingDataset

    path = make_xy(tmp_path / "out.h5", 5, 6)

    pairs = GrowingDataset(path, "/X", "/y", batch_size=4)
    inputs = GrowingDataset(path, "/X", batch_size=4)

    assert [len(pairs), len(inputs)] == [3, 3]
    assert [x[:, 0].tolist() for x, _ in (pairs[i] for i in range(3))] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10],
    ]
    assert np.array_equal(inputs[2], pairs[2][1])


@pytest.mark.parametrize("workers", [1, 2])
def test_fit_epoch_by_epoch_takes_in_what_came_meanwhile(tmp_path: Path, workers: int) -> None:
    import keras

    from ingestd.keras import GrowingDataset

    path = make_xy(tmp_path / "out.h5", 8)
    growing = GrowingDataset(path, "/X", "/y", batch_size=4, workers=workers)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    batches: list[int] = []

    class Noting(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            batches.append(0)
            if epoch == 0:
                make_xy(tmp_path / "longer.h5", 8, 12).rename(path)

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            batches[-1] += 1

    for epoch in range(3):
        model.fit(growing, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[Noting()])

    assert batches == [2, 5, 5]


def test_datasets_that_are_not_in_lockstep_are_refused(tmp_path: Path) -> None:
    from ingestd.keras import GrowingDataset

    path = make_output(make_output(tmp_path / "out.h5", [5], "/X"), [3], "/y")
    with h5py.File(path, "r") as file:
        assert len(file["X"]) > len(file["y"])

    with pytest.raises(UsageError, match="no common rows"):
        GrowingDataset(path, "/X", "/y")
