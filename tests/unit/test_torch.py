"""PyTorch over an output: each row goes to one worker, forked or spawned, and none before it is
committed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import ENVIRONMENT, until
from outputs import make_output, make_placed

from ingestd.errors import UsageError
from ingestd.tail import Replaced

torch = pytest.importorskip("torch", reason="pip install torch")

from torch.utils.data import DataLoader  # noqa: E402

from ingestd.torch import RowDataset, TailDataset  # noqa: E402

# PyTorch's own, when it forks while threads run, and when NumPy's ways change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def first(samples: Any) -> list[int]:
    """The row numbers, which each sample's first value is."""
    return [int(sample[0]) for sample in samples]


def numbers(loader: Any) -> list[int]:
    """The row numbers of all batches."""
    return [int(row) for batch in loader for row in batch[:, 0]]


def test_a_row_dataset_is_a_snapshot_until_it_is_refreshed(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5])
    rows = RowDataset(path, "/data")
    make_output(tmp_path / "longer.h5", [5, 6]).rename(path)

    before = len(rows), first(rows[i] for i in range(5)), int(rows[-1][0])
    refreshed = rows.refresh()

    assert before == (5, [0, 1, 2, 3, 4], 4)
    assert refreshed == len(rows) == 11
    assert torch.equal(rows[-1], torch.tensor([10, 10], dtype=torch.int32))
    with pytest.raises(IndexError, match="not among the 11"):
        rows[11]


def test_a_batch_of_rows_is_one_read_in_the_order_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowDataset(make_output(tmp_path / "out.h5", [20]), "data")
    reads = []
    getitem = h5py.Dataset.__getitem__

    def noted(self: h5py.Dataset, key: object) -> object:
        if self.name == "/data":
            reads.append(key)
        return getitem(self, key)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)

    batch = next(iter(DataLoader(rows, batch_sampler=[[7, 3, 3, 19]])))

    assert batch[:, 0].tolist() == [7, 3, 3, 19]
    assert len(reads) == 1


def test_samples_of_datasets_in_lockstep_are_tuples_of_the_rows_that_all_have(
    tmp_path: Path,
) -> None:
    path = make_output(make_output(tmp_path / "out.h5", [5, 6], "/X"), [5], "/y")
    make_output(path, [2], "/other")

    pairs = RowDataset(path, ["/X", "/y"])
    tail = list(TailDataset(path, ["/X", "/y"], timeout=0))

    assert len(pairs) == len(tail) == 5
    assert first(pairs[4]) == first(tail[4]) == [4, 4]
    with pytest.raises(UsageError, match="no common rows"):
        RowDataset(path, ["/X", "/other"])


def test_compound_rows_are_dicts_of_tensors_and_foreign_byte_order_is_turned(
    tmp_path: Path,
) -> None:
    path = make_output(tmp_path / "out.h5", [2])
    rows = np.array([(1, [2.5, 3]), (4, [5, 6])], [("n", ">i4"), ("x", ">f8", (2,))])
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_dataset("data", data=rows, chunks=(1,), maxshape=(None,))

    batch = next(iter(DataLoader(RowDataset(path, "/data"), batch_size=2)))

    assert batch["n"].tolist() == [1, 4]
    assert batch["x"].tolist() == [[2.5, 3.0], [5.0, 6.0]]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_share_the_rows_so_that_each_comes_once(tmp_path: Path, method: str) -> None:
    path = make_output(tmp_path / "out.h5", [7, 1, 50])
    rows = RowDataset(path, "/data")
    rows[0]  # open here, so that a fork inherits it
    how = {"multiprocessing_context": method, "batch_size": 5}
    tail = TailDataset(path, "/data", 3, timeout=0, block_rows=4)

    mapped = numbers(DataLoader(rows, num_workers=1, **how))
    tailed = numbers(DataLoader(tail, num_workers=2, **how))

    assert mapped == list(range(58))
    assert sorted(tailed) == list(range(3, 58))


def test_blocks_of_rows_go_to_workers_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = TailDataset(make_output(tmp_path / "out.h5", [11]), "/data", 1, timeout=0, block_rows=2)

    def of_worker(number: int) -> list[int]:
        info = type("Info", (), {"id": number, "num_workers": 2})
        monkeypatch.setattr("torch.utils.data.get_worker_info", lambda: info)
        return first(tail)

    assert of_worker(0) == [1, 4, 5, 8, 9]
    assert of_worker(1) == [2, 3, 6, 7, 10]


def test_a_tail_waits_for_the_file_and_hands_out_rows_as_they_are_committed(
    tmp_path: Path,
) -> None:
    path, stop = tmp_path / "out.h5", threading.Event()
    samples = iter(TailDataset(path, "/data", stop=stop))
    timer = threading.Timer(0.1, lambda: make_output(tmp_path / "new.h5", [3]).rename(path))
    timer.start()

    early = [next(samples) for _ in range(3)]
    timer.join()
    make_output(tmp_path / "longer.h5", [3, 2]).rename(path)
    late = [next(samples) for _ in range(2)]
    stop.set()

    assert first(early) + first(late) == [0, 1, 2, 3, 4]
    assert list(samples) == []


def test_rows_that_are_not_committed_are_not_handed_out(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5])
    with h5py.File(path, "a") as file:
        file["data"].resize(9, axis=0)

    assert first(TailDataset(path, "/data", timeout=0)) == [0, 1, 2, 3, 4]
    assert len(RowDataset(path, "/data")) == 5


def test_another_file_with_other_rows_is_not_taken_for_the_same(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3])
    samples = iter(TailDataset(path, "/data"))
    seen = [next(samples) for _ in range(3)]
    make_output(tmp_path / "other.h5", [4]).rename(path)

    with pytest.raises(Replaced, match="begins with other rows"):
        next(samples)
    assert first(seen) == [0, 1, 2]


def test_what_a_tail_cannot_do_is_refused(tmp_path: Path) -> None:
    placed = make_placed(tmp_path / "placed.h5", [(4, 2), (0, 2)], 6)

    with pytest.raises(UsageError, match=r"Use ingestd\.open_tail"):
        next(iter(TailDataset(placed, "/data")))
    with pytest.raises(UsageError, match="no dataset is named"):
        TailDataset(placed, [])
    with pytest.raises(ValueError, match="start=-1"):
        TailDataset(placed, "/data", -1)


def test_both_pickle(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [5])
    through: Callable[[Any], Any] = lambda made: pickle.loads(pickle.dumps(made))  # noqa: E731

    rows, tail = through(RowDataset(path, "/data")), through(TailDataset(path, "data", timeout=0))

    assert first(rows[i] for i in range(len(rows))) == first(tail) == [0, 1, 2, 3, 4]


ORPHAN = """
import sys
from torch.utils.data import DataLoader
from ingestd.torch import TailDataset

loader = iter(DataLoader(TailDataset(sys.argv[1], "/data"), num_workers=1, batch_size=1))
next(loader)
print(*[worker.pid for worker in loader._workers], flush=True)
sys.stdin.read()
"""


def test_a_worker_whose_loader_was_killed_ends(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [1])
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, path],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as loader:
        assert loader.stdout is not None
        pid = int(loader.stdout.readline())
        loader.send_signal(signal.SIGKILL)
        loader.wait()

        until(lambda: not is_running(pid), "the worker has ended")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
