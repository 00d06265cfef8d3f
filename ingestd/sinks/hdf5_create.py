"""How a dataset of an output is made: its chunks, its filters, its records beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from ingestd import layout
from ingestd.chunks import ChunkPlan, plan_chunks
from ingestd.sinks import DatasetSpec

GZIP_LEVEL = 1
"""The level of a ``gzip`` without one: one of those that are fast."""

KEYS_PER_CHUNK = 1024


def create(
    file: h5py.File,
    specs: Mapping[str, DatasetSpec],
    attrs: Mapping[str, Mapping[str, Any]],
) -> None:
    """Make the datasets of ``specs`` in ``file``, each with its records; set ``attrs`` of groups.

    :raises ValueError, TypeError: HDF5 cannot hold such a dataset.
    """
    for name, spec in specs.items():
        plan = chunk_plan(spec)
        dataset = file.create_dataset(
            name,
            shape=(0, *spec.type.row_shape),
            maxshape=(None, *spec.type.row_shape),
            chunks=plan.shape or (plan.rows, *spec.type.row_shape),
            dtype=spec.type.dtype,
            fillvalue=spec.fill,
            track_times=False,
            **_filters(spec),
        )
        for key, value in spec.attrs.items():
            dataset.attrs[key] = value
        records = file.create_dataset(
            layout.records_path(name),
            shape=(0,),
            maxshape=(None,),
            chunks=(layout.RECORDS_PER_CHUNK,),
            dtype=layout.RECORD,
            track_times=False,
        )
        if spec.placed:
            records.attrs[layout.PLACED] = np.uint8(1)
        if spec.keyed:
            _create_keys(file, name)
    for group, values in attrs.items():
        file.require_group(group).attrs.update(values)


def _create_keys(file: h5py.File, name: str) -> None:
    how = {"maxshape": (None,), "track_times": False}
    file.create_dataset(layout.key_path(name), (0,), "<u8", chunks=(KEYS_PER_CHUNK,), **how)
    # With its value, so that its chunk is there: a full disk does not keep the file from closing.
    file.create_dataset(layout.finished_path(name), data=np.zeros(1, "u1"), chunks=(1,), **how)


def chunk_plan(spec: DatasetSpec) -> ChunkPlan:
    """The chunks that a dataset is made with."""
    plan = plan_chunks(
        spec.type.row_bytes,
        spec.file_rows,
        compressed=spec.compression != "none",
        asked=spec.chunks[0] if spec.chunks else spec.chunk_rows,
        # Rows at stated places would have an index so many times as long.
        row_shape=() if spec.placed or spec.filters else spec.type.row_shape,
    )
    if spec.chunks is None:
        return plan
    return replace(plan, shape=spec.chunks, value_bytes=spec.type.dtype.itemsize)


def _filters(spec: DatasetSpec) -> dict[str, object]:
    names = spec.filters
    if names is None:
        names = ("shuffle",) if spec.compression in ("gzip", "lzf") else ()
    given: dict[str, object] = {
        "shuffle": "shuffle" in names,
        "fletcher32": "fletcher32" in names,
        "scaleoffset": 0 if "scaleoffset" in names else None,  # so many bits as the chunk needs
    }
    if spec.compression != "none":
        given |= _compression(spec)
    return given


def _compression(spec: DatasetSpec) -> dict[str, object]:
    match spec.compression:
        case "gzip":
            level = GZIP_LEVEL if spec.level is None else spec.level
            return {"compression": "gzip", "compression_opts": level}
        case "lzf":
            return {"compression": "lzf"}
    import hdf5plugin  # late: it registers its filters, and takes 15 ms

    match spec.compression:
        case "lz4":
            return dict(hdf5plugin.LZ4())
        case "zstd":
            return dict(
                hdf5plugin.Zstd() if spec.level is None else hdf5plugin.Zstd(clevel=spec.level)
            )
        case "bitshuffle":
            return dict(hdf5plugin.Bitshuffle())
        case "blosc":
            return dict(
                hdf5plugin.Blosc() if spec.level is None else hdf5plugin.Blosc(clevel=spec.level)
            )
        case "blosc2":
            return dict(
                hdf5plugin.Blosc2() if spec.level is None else hdf5plugin.Blosc2(clevel=spec.level)
            )
    raise AssertionError(spec.compression)
