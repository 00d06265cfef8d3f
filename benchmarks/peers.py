"""Other ways to append the same files to a growing array, each as short as its users write it.

``python -m benchmarks.peers NAME [FEED=COMPRESSION...]`` in a workload's directory, a fresh
process each time; without a feed it starts, imports and ends. Every peer **only appends**: no
ledger, no digests, no provenance, no fsync, no check whether a file is still being written, and
only ``h5py`` and ``h5py-batch`` let anybody read meanwhile, or move the files they have taken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_BUFFER_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_SHARD_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class Job:
    """The files to append, in order; where to; and where files may go that are done."""

    files: list[Path]
    output: Path
    done: Path
    compression: str


Peer = Callable[[Job], int]
"""Appends all of a job, and gives the rows that the array then has."""


def load(path: Path) -> np.ndarray:
    """One file, whole."""
    return np.loadtxt(path, delimiter=",") if path.suffix == ".csv" else np.load(path)


def chunk_rows(row: np.ndarray) -> int:
    """Rows in a chunk of about a megabyte."""
    return max(1, _CHUNK_BYTES // max(1, row.nbytes))


def blog(job: Job) -> int:
    """The script of many a blog: load, resize, assign; chunks as h5py guesses them."""
    import h5py

    rows = 0
    with h5py.File(job.output, "w") as file:
        for path in job.files:
            array = load(path)
            if "data" not in file:
                file.create_dataset(
                    "data", data=array, maxshape=(None, *array.shape[1:]), chunks=True
                )
            else:
                file["data"].resize(file["data"].shape[0] + array.shape[0], axis=0)
                file["data"][-array.shape[0] :] = array
            rows = file["data"].shape[0]
    return rows


def by_hand(job: Job) -> int:
    """h5py with care: one buffer, whole chunks, SWMR, a flush for each file, then its rename."""
    import h5py

    buffer = np.empty(_BUFFER_BYTES, np.uint8)
    with h5py.File(job.output, "w", libver=("v110", "latest"), rdcc_nbytes=1 << 20) as file:
        data: Any = None
        end = 0
        for path in job.files:
            for block in _blocks(path, buffer):
                if data is None:
                    data = _growing(file, block, job.compression)
                    file.swmr_mode = True
                data.resize(end + len(block), axis=0)
                data[end:] = block
                end += len(block)
            data.flush()
            path.rename(job.done / path.name)
    return end


def in_batches(job: Job) -> int:
    """The same for small files: a megabyte of them is written, flushed and renamed together."""
    import h5py

    buffer = np.empty(_BUFFER_BYTES, np.uint8)
    with h5py.File(job.output, "w", libver=("v110", "latest"), rdcc_nbytes=1 << 20) as file:
        data: Any = None
        end = 0
        blocks: list[np.ndarray] = []
        taken: list[Path] = []
        waiting = 0
        for path in job.files:
            blocks += [block.copy() for block in _blocks(path, buffer)]
            taken.append(path)
            waiting += blocks[-1].nbytes
            if waiting < _CHUNK_BYTES and path is not job.files[-1]:
                continue
            batch = np.concatenate(blocks)
            if data is None:
                data = _growing(file, batch, job.compression)
                file.swmr_mode = True
            data.resize(end + len(batch), axis=0)
            data[end:] = batch
            end += len(batch)
            data.flush()
            for one in taken:
                one.rename(job.done / one.name)
            blocks, taken, waiting = [], [], 0
    return end


def _blocks(path: Path, buffer: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a ``.npy``, as many as the buffer holds at a time."""
    if path.suffix != ".npy":
        yield load(path)
        return
    with path.open("rb", buffering=0) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
        step = max(1, len(buffer) // row_bytes)
        for start in range(0, shape[0], step):
            rows = min(step, shape[0] - start)
            view = buffer[: rows * row_bytes]
            assert file.readinto(view.data) == len(view), f"{path} is cut short"
            yield view.view(dtype).reshape(rows, *shape[1:])


def _growing(file: Any, like: np.ndarray, compression: str) -> Any:
    return file.create_dataset(
        "data",
        shape=(0, *like.shape[1:]),
        maxshape=(None, *like.shape[1:]),
        chunks=(chunk_rows(like[0]), *like.shape[1:]),
        dtype=like.dtype,
        **_filter(compression),
    )


def _filter(compression: str) -> dict[str, Any]:
    import hdf5plugin

    match compression:
        case "none":
            return {}
        case "gzip":
            return {"compression": "gzip", "shuffle": True}
        case "bitshuffle":
            return dict(hdf5plugin.Bitshuffle())
        case "zstd":
            return dict(hdf5plugin.Zstd())
        case "blosc2":
            return dict(hdf5plugin.Blosc2())
    raise ValueError(compression)


def pytables(job: Job) -> int:
    """PyTables: ``EArray.append``."""
    import tables

    with tables.open_file(str(job.output), "w") as file:
        data: Any = None
        for path in job.files:
            array = load(path)
            if data is None:
                data = file.create_earray(
                    "/",
                    "data",
                    atom=tables.Atom.from_dtype(array.dtype),
                    shape=(0, *array.shape[1:]),
                    chunkshape=(chunk_rows(array[0]), *array.shape[1:]),
                )
            data.append(array)
        return 0 if data is None else int(data.nrows)


def zarr_append(job: Job, shard_chunks: int = 0) -> int:
    """zarr: ``Array.append``; a chunk is a file, or a part of a larger one (a shard)."""
    import zarr

    data: Any = None
    for path in job.files:
        array = load(path)
        if data is None:
            rows, row_shape = chunk_rows(array[0]), array.shape[1:]
            data = zarr.create_array(
                store=str(job.output),
                shape=(0, *row_shape),
                chunks=(rows, *row_shape),
                shards=(rows * shard_chunks, *row_shape) if shard_chunks else None,
                dtype=array.dtype,
                compressors=_codec(job.compression, array.itemsize) or None,
                fill_value=0,
            )
        data.append(array, axis=0)
    return 0 if data is None else int(data.shape[0])


def zarr_shards(job: Job) -> int:
    """The same with sharding."""
    return zarr_append(job, _SHARD_CHUNKS)


def tensorstore(job: Job) -> int:
    """TensorStore: a zarr v3 array that is resized and written to."""
    import tensorstore as ts

    data: Any = None
    end = 0
    for path in job.files:
        array = load(path)
        if data is None:
            row_shape = list(array.shape[1:])
            chunk = {"chunk_shape": [chunk_rows(array[0]), *row_shape]}
            little = {"name": "bytes", "configuration": {"endian": "little"}}
            spec = {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{job.output}/"},
                "metadata": {
                    "shape": [0, *row_shape],
                    "data_type": array.dtype.name,
                    "chunk_grid": {"name": "regular", "configuration": chunk},
                    "codecs": [little, *_codec(job.compression, array.itemsize)],
                },
            }
            data = ts.open(spec, create=True, delete_existing=True).result()
        shape = [end + len(array), *array.shape[1:]]
        data = data.resize(exclusive_max=shape).result()
        data[end : end + len(array)].write(array).result()
        end += len(array)
    return end


def _codec(compression: str, itemsize: int) -> list[dict[str, Any]]:
    """What comes nearest in zarr."""
    blosc = {"clevel": 5, "typesize": itemsize, "blocksize": 0}
    match compression:
        case "none":
            return []
        case "gzip":
            return [{"name": "gzip", "configuration": {"level": 4}}]
        case "bitshuffle":
            lz4 = {"cname": "lz4", "shuffle": "bitshuffle", **blosc}
            return [{"name": "blosc", "configuration": lz4}]
        case "zstd":
            return [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
        case "blosc2":
            lz = {"cname": "blosclz", "shuffle": "shuffle", **blosc}
            return [{"name": "blosc", "configuration": lz}]
    raise ValueError(compression)


PEERS: dict[str, tuple[str, Peer]] = {
    "blog": ("h5py", blog),
    "h5py": ("h5py", by_hand),
    "h5py-batch": ("h5py", in_batches),
    "pytables": ("tables", pytables),
    "zarr": ("zarr", zarr_append),
    "zarr-shards": ("zarr", zarr_shards),
    "tensorstore": ("tensorstore", tensorstore),
}
"""By name: the package that it needs, and the function."""


def installed(name: str) -> bool:
    """Whether the peer's package is there."""
    return find_spec(PEERS[name][0]) is not None


def main() -> None:
    """Append every feed, and print the rows."""
    name, *feeds = sys.argv[1:]
    peer = PEERS[name][1]
    Path("peer").mkdir(exist_ok=True)
    if not feeds:
        peer(Job([], Path("peer/empty"), Path("done"), "none"))
    for feed in feeds:
        source, _, compression = feed.partition("=")
        files = sorted(Path("drop", source).iterdir())
        rows = peer(Job(files, Path("peer", source), Path("done", source), compression))
        print(source, rows)


if __name__ == "__main__":
    main()
