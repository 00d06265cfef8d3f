"""The Python of docs/reading-with.md runs as it stands, on files that a daemon has open."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import ENVIRONMENT, ROOT, drop
from station import Station

PAGE = ROOT / "docs" / "reading-with.md"

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)

NEEDS = ("xarray", "pandas", "torch", "keras", "swmr_tools", "h5grove")
ALSO = {"xarray": "dask", "keras": "torch", "swmr_tools": "blosc"}

CONFIG = """
sources:
  frames: {drop: drop/frames, output: data/frames.h5, datasets: {/entry/data: {}}}
  iris: {drop: drop/iris, output: data/iris.h5, datasets: {/X: {}, /y: {}}}
  log: {drop: drop/log, output: data/log.h5, datasets: {/log: {}}}
  keyed: {drop: drop/keyed, output: data/keyed.h5, datasets: {/entry/data: {keys: true}}}
"""


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    frames = np.zeros((3, 4, 5), "<u2")
    log = np.array([(1, 2.5), (2, 3.5)], [("n", "<i4"), ("T", "<f8")])
    kinds = np.random.default_rng(1).integers(0, 3, 40)
    iris = {"X": (kinds[:, None] + np.zeros(4)).astype("<f4"), "y": kinds}
    with Station(tmp_path_factory.mktemp("page"), CONFIG) as station:
        for source in ("frames", "keyed"):
            drop(station.cwd / f"drop/{source}/0.npy", lambda path: _save(path, frames))
        drop(station.cwd / "drop/log/0.npy", lambda path: _save(path, log))
        drop(station.cwd / "drop/iris/0.npz", lambda path: _savez(path, iris))
        station.until_empty("drop/frames", "drop/keyed", "drop/log", "drop/iris")
        yield station


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def _savez(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_example_runs(station: Station, text: str) -> None:
    for name in NEEDS:
        # Not imported: Keras would choose its back end for all the tests to come.
        needed = (name, ALSO.get(name, name)) if re.search(rf"(\b|_){name}\b", text) else ()
        if missing := [each for each in needed if find_spec(each) is None]:
            pytest.skip(f"pip install {' '.join(missing)}")
    # The daemon does not end, so it is waited for in vain.
    text = text.replace("timeout=10", "timeout=1")

    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=station.cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout
