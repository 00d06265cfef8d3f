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
from ingestd.superblock import SUPERBLOCK_BYTES_MAX, parse

BYTES_MAX = 256 << 20
"""Datasets whose last two chunks are larger than this are not written: memory is bounded."""

CHUNKS_AHEAD = (*range(32), 64, 128, 256, 512, 1024)
"""Chunks beyond the last one that are tried. Blocks of the index grow, so these meet them all."""

SECONDS = 100.0
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


def _grow_and_cut(dataset: h5py.Dataset, end: int, placed: bool = False) -> None:
    """What the writer may touch: the last chunks, and the index far beyond them.

    The index of the rows to come may be there from before, and torn. ``end`` is the file's; a
    ``placed`` dataset's rows come in any order.
    """
    rows, chunk_rows = dataset.shape[0], dataset.chunks[0]
    row = np.zeros(dataset.shape[1:], dataset.dtype)
    far = rows + CHUNKS_AHEAD[-1] * chunk_rows
    if 2 * chunk_rows * row.nbytes > BYTES_MAX:
        _refuse_beyond(dataset, far, end)
        return
    last = dataset[max(0, rows - 2 * chunk_rows) :]
    if placed:
        # From then on the index shows all that it has up to there.
        dataset.resize(far + 1, axis=0)
        dataset[far] = row
    _refuse_beyond(dataset, far, end)
    for ahead in CHUNKS_AHEAD:
        dataset.resize(rows + ahead * chunk_rows + 1, axis=0)
        dataset[rows + ahead * chunk_rows] = row
    dataset.resize(max(0, rows - len(last) // 2), axis=0)
    dataset.resize(rows, axis=0)
    dataset[rows - len(last) :] = last


def _refuse_beyond(dataset: h5py.Dataset, far: int, end: int) -> None:
    """:raises ValueError: a chunk before row ``far`` is not in the file: what is written next
    would get the same place."""
    beyond: list[int] = []

    def look(chunk: h5py.h5d.StoreInfo) -> None:
        if (
            chunk.byte_offset + chunk.size > end
            and chunk.chunk_offset[0] + dataset.chunks[0] <= far
        ):
            beyond.append(chunk.chunk_offset[0])

    dataset.id.chunk_iter(look)
    if beyond:
        raise ValueError(f"{dataset.name}: the chunk of row {beyond[0]} lies beyond the file's end")


def main() -> None:
    """``try_out`` the file named on the command line."""
    try_out(Path(sys.argv[1]))


def try_out(path: Path) -> None:
    """Find all objects of the output at ``path``, and grow and cut its live datasets on an overlay.

    :raises OSError, ValueError: it cannot be written. HDF5 may crash, too, or never come back.
    """
    with path.open("rb") as start:
        end = parse(start.read(SUPERBLOCK_BYTES_MAX), 0).end
    ours: list[str] = []

    def look(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks:
            item.id.get_num_chunks()
            if f"/{name}".startswith(f"{layout.GROUP}/"):
                ours.append(f"/{name}")

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(look)
    for name in ours:
        # An overlay for each: it holds all that is written to it. Chunks that a cache held back
        # would be cut before they meet the index.
        with (
            open_overlay(path) as overlay,
            h5py.File(overlay, "r+", libver=LIBVER, rdcc_nbytes=0) as file,
        ):
            records = file[name]
            _grow_and_cut(records, end)
            if layout.is_records(name):
                dataset = file[layout.dataset_path(name)]
                need_filters(dataset.id)
                _grow_and_cut(dataset, end, layout.PLACED in records.attrs)
