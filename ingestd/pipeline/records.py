"""The record of each drop file: readers rely on it, and recovery looks for it. Keys go with it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ingestd.errors import BrokenInvariant
from ingestd.layout import NAME_BYTES, RECORD, RECORD_STRUCT, key_path, records_path
from ingestd.model import Entry, Placement
from ingestd.sinks import Sink


def append_records(
    sink: Sink, entries: Sequence[Entry], there: Collection[tuple[int, str]] = ()
) -> None:
    """Append the record (``layout.RECORD``) of each entry, in every dataset that it feeds,
    and the keys of its rows where there are keys.

    ``there``: records that exist, by file id and dataset.
    """
    wanted: dict[str, list[tuple[Entry, Placement]]] = {}
    for e in entries:
        for p in e.placements:
            if not there or (e.file_id, p.dataset) not in there:
                wanted.setdefault(p.dataset, []).append((e, p))
    for dataset, pairs in wanted.items():
        path = records_path(dataset)
        sink.append(path, _records(pairs, sink.types[path].dtype))
        append_keys(sink, dataset, pairs[-1][1].rows.stop)


def append_keys(sink: Sink, dataset: str, stop: int) -> int:
    """Append the keys of the rows up to ``stop`` that have none yet; how many.

    None, if the dataset is not one with keys.
    """
    path = key_path(dataset)
    if path not in sink.types:
        return 0
    keys = np.arange(sink.rows(path) + 1, stop + 1, dtype="<u8")
    sink.append(path, keys)
    return len(keys)


def _records(pairs: list[tuple[Entry, Placement]], dtype: np.dtype) -> np.ndarray:
    now = time.time_ns()
    # Packed as bytes: NumPy would take three times as long over the tuples.
    packed = [
        RECORD_STRUCT.pack(
            p.rows.start,
            len(p.rows),
            e.file.raw_name[-NAME_BYTES:],
            p.digest.encode(),
            e.file.fingerprint.mtime_ns,
            now,
            e.file.source.encode(),
            e.file_id,
            e.digest.encode(),
            len(e.placements),
            e.captures.encode(errors="replace"),
        )
        for e, p in pairs
    ]
    records = np.frombuffer(b"".join(packed), RECORD)
    return records if dtype == RECORD else _narrowed(records, dtype)


def _narrowed(records: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The records for an output that was begun when they had fewer fields."""
    narrowed = np.empty(len(records), dtype)
    for name in dtype.names or ():
        narrowed[name] = records[name]
    return narrowed


def check_rows(outputs: Mapping[Path, Sink], entries: list[Entry]) -> None:
    """Read rows back that were written anew after a write had failed."""
    for entry in entries:
        for placement in entry.placements:
            digest = outputs[Path(entry.output)].digest(placement.dataset, placement.rows)
            if digest != placement.digest:
                raise BrokenInvariant(
                    f"{entry.output}:{placement.dataset}: rows of {entry.file} do not read back "
                    "as they were written; is the disk sound? The file stays where it is"
                )
