"""Outputs as a daemon leaves them, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from ingestd import layout

OLD_RECORD = np.dtype([(n, layout.RECORD[n]) for n in layout.RECORD.names if n != "captures"])
"""Records of outputs that were begun before names' captures were kept."""


def make_output(
    path: Path,
    files: list[int],
    dataset: str = "/data",
    ids: list[int] | None = None,
    record: np.dtype = layout.RECORD,
    **how: Any,
) -> Path:
    """An output with one record for each of ``files``, row r holding (r, r)."""
    rows = np.repeat(np.arange(sum(files), dtype="<i4")[:, None], 2, axis=1)
    ends = np.cumsum(files, dtype=int)
    records = np.zeros(len(files), record)
    records["rows"], records["first_row"] = files, ends - files
    records["name"] = [f"{n}.npy".encode() for n in range(len(files))]
    records["source"], records["committed_ns"] = b"frames", 1
    records["file_id"] = np.arange(len(files)) + 1 if ids is None else ids
    records["digest"] = [
        xxhash.xxh3_128_hexdigest(rows[end - count : end].tobytes()).encode()
        for end, count in zip(ends, files, strict=True)
    ]
    how = {"chunks": (4, 2), "maxshape": (None, 2), **how}
    with h5py.File(path, "a", libver=("v110", "v114")) as file:
        file.create_dataset(dataset, data=rows, **how)
        file.create_dataset(
            layout.records_path(dataset), data=records, maxshape=(None,), chunks=(128,)
        )
    return path


def make_placed(path: Path, files: list[tuple[int, int]], end: int, fill: int = -1) -> Path:
    """An output of ``end`` rows; ``files`` are (first row, rows), as they came; row r holds r."""
    rows = np.full(end, fill, "<i4")
    records = np.zeros(len(files), layout.RECORD)
    for record, (first, count) in zip(records, files, strict=True):
        rows[first : first + count] = np.arange(first, first + count)
        record["first_row"], record["rows"], record["committed_ns"] = first, count, 1
        record["name"] = f"f{first}.npy".encode()
        record["captures"] = f'{{"seq":{first}}}'.encode()
        digest = xxhash.xxh3_128_hexdigest(rows[first : first + count].tobytes())
        record["digest"] = digest.encode()
    with h5py.File(path, "a", libver=("v110", "v114")) as file:
        file.create_dataset("/data", data=rows, chunks=(4,), maxshape=(None,), fillvalue=fill)
        made = file.create_dataset(
            layout.records_path("/data"), data=records, maxshape=(None,), chunks=(128,)
        )
        made.attrs[layout.PLACED] = np.uint8(1)
    return path


def grown_output(path: Path) -> tuple[bytes, bytes]:
    """The bytes of the output at ``path``, and those when another chunk was appended."""
    with h5py.File(path, "r+", libver=("v110", "v114"), rdcc_nbytes=0) as file:
        file.swmr_mode = True
        before = path.read_bytes()
        rows = len(file["/data"])
        file["/data"].resize(rows + 4, axis=0)
        file["/data"][rows:] = np.ones((4, 2))
        file.flush()
        return before, path.read_bytes()
