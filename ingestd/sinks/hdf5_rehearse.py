"""Tries on an output what recovery and the next writer will do to it, and changes nothing.

After a loss of power a file may open, and crash HDF5 only when it is written: so this is done in
a process of its own, on an overlay that is thrown away.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from ingestd import layout
from ingestd.sinks.hdf5_edit import LIBVER, open_overlay
from ingestd.sinks.hdf5_filters import need_filters

BYTES_MAX = 256 << 20
"""Datasets whose last two chunks are larger than this are not tried: memory is bounded."""

CHUNKS_AHEAD = (*range(32), 64, 128, 256, 512, 1024)
"""Chunks beyond the last one that are tried. Blocks of the index grow, so these meet them all."""

SECONDS = 120.0
"""How long it may take before the file counts as one that holds HDF5 for ever."""


# The same code as here, wherever this process has it from.
_CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from ingestd.sinks.hdf5_rehearse import main
main()
"""


def rehearse(path: Path) -> str | None:
    """None if the output at ``path``, which is closed, can be written, else why not."""
    command = [sys.executable, "-c", _CHILD, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"HDF5 was not through with it after {SECONDS:g} s"
    if done.returncode < 0:
        return f"HDF5 crashed with {signal.Signals(-done.returncode).name} when it was written"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return None


def _grow_and_cut(dataset: h5py.Dataset) -> None:
    """What the writer may touch: the last chunks, and the index far beyond them.

    The index of the rows to come may be there from before, and torn.
    """
    rows, chunk_rows = dataset.shape[0], dataset.chunks[0]
    row = np.zeros(dataset.shape[1:], dataset.dtype)
    if 2 * chunk_rows * row.nbytes > BYTES_MAX:
        return
    last = dataset[max(0, rows - 2 * chunk_rows) :]
    for ahead in CHUNKS_AHEAD:
        dataset.resize(rows + ahead * chunk_rows + 1, axis=0)
        dataset[rows + ahead * chunk_rows] = row
    dataset.resize(max(0, rows - len(last) // 2), axis=0)
    dataset.resize(rows, axis=0)
    dataset[rows - len(last) :] = last


def main() -> None:
    """Grow and cut every dataset of the file named on the command line, on an overlay."""
    path = Path(sys.argv[1])
    names: list[str] = []
    with h5py.File(path, "r", locking=False) as file:
        file[layout.GROUP].visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
    for name in names:
        # An overlay for each: it holds all that is written to it. Chunks that a cache held back
        # would be cut before they meet the index.
        with (
            open_overlay(path) as overlay,
            h5py.File(overlay, "r+", libver=LIBVER, rdcc_nbytes=0) as file,
        ):
            _grow_and_cut(file[f"{layout.GROUP}/{name}"])
            if layout.is_records(name):
                dataset = file[layout.dataset_path(f"{layout.GROUP}/{name}")]
                need_filters(dataset.id)
                _grow_and_cut(dataset)
