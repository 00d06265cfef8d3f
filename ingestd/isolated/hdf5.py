"""HDF5 files, in the reading child: every dataset of the file itself, slab by slab.

What is read lies in this one file, which is digested: sources, raw data and links in others are
refused. So are types that have no fixed width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from ingestd.errors import BadFile
from ingestd.isolated import refusals
from ingestd.isolated.links import Links
from ingestd.isolated.refusals import Refusal
from ingestd.isolated.source import Source
from ingestd.isolated.wire import Member, pack_dtype, unpack_dtype

CHUNK_BYTES_MAX = 256 << 20
"""HDF5 unpacks a chunk in memory, whole, before any of it is had."""

BLOCK_BYTES = 64 << 20
"""Where slabs do not fit the chunks, so much is read at a time, and handed out in slabs."""

_CACHE_BYTES = 8 << 20
_NESTED_MAX = 4


@dataclass
class _Found:
    dataset: h5py.Dataset
    member: Member
    transposed: bool
    block_rows: int = 0
    block_start: int = 0
    block: np.ndarray | None = None


def open_reader(fd: int, string_bytes: int | None = None, matlab: bool = False) -> Hdf5Reader:
    """The file of ``fd``; ``matlab``: its arrays with the axes, types and names they had there."""
    return Hdf5Reader(fd, string_bytes, matlab)


class Hdf5Reader:
    """An open HDF5 file."""

    def __init__(self, fd: int, string_bytes: int | None, matlab: bool) -> None:
        self._string_bytes, self._matlab = string_bytes, matlab
        # Not by a name, "/proc/self/fd/N" say: HDF5 would look where it leads, and a drop file may
        # be moved meanwhile. Nor is it locked: its writer must not fail because of us.
        self._file = h5py.File(Source(fd), "r", rdcc_nbytes=_CACHE_BYTES)
        self._links = Links(self._file.id)
        self._found: dict[str, _Found] = {}
        self.members: Mapping[str, Member] = dict(self._members())

    def close(self) -> None:
        self._found.clear()
        self._file.close()

    def _members(self) -> Iterator[tuple[str, Member]]:
        first: dict[int, str] = {}
        for path, address in self._links.datasets():
            name = path.decode("utf-8", "backslashreplace")
            if self._matlab:
                if path.count(b"/") > 1 or path.startswith(b"/#"):
                    continue
                name = name[1:]
            if address in first:
                one = self._found[first[address]]
                link = Member(
                    one.member.dtype, one.member.shape, one.member.chunk_rows,
                    one.member.refused, first[address],
                )  # fmt: skip
                self._found[name] = _Found(one.dataset, link, one.transposed, one.block_rows)
            else:
                first[address] = name
                self._found[name] = self._look(path, name)
            yield name, self._found[name].member
        if self._matlab:
            yield from self._structs()

    def _structs(self) -> Iterator[tuple[str, Member]]:
        """The variables that MATLAB keeps as groups."""
        for name in self._file:
            if name.startswith("#") or name in self._found:
                continue
            if self._file.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                continue
            sparse = "MATLAB_sparse" in self._file[name].attrs
            yield name, _refused(refusals.of_matlab("a sparse array" if sparse else "a struct"))

    def _look(self, path: bytes, name: str) -> _Found:
        dataset = h5py.Dataset(h5py.h5d.open(self._file.id, path))
        refusal = self._refusal(dataset)
        if refusal is not None:
            return _Found(dataset, _refused(refusal), False)
        dtype, shape, chunks = self._dtype(dataset), dataset.shape, dataset.chunks
        transposed = self._matlab and len(shape) > 1
        shape = shape[::-1] if transposed else shape
        row_bytes = dtype.itemsize * math.prod(shape[1:])
        most = max(1, BLOCK_BYTES // max(1, row_bytes))
        chunk_rows = chunks[-1 if transposed else 0] if chunks else 1
        block_rows = most if transposed else min(most, chunk_rows)
        return _Found(dataset, Member(dtype, shape, chunk_rows), transposed, block_rows)

    def _dtype(self, dataset: h5py.Dataset) -> np.dtype[Any]:
        dtype = dataset.dtype
        if h5py.check_string_dtype(dtype) and dtype.hasobject:
            return np.dtype(f"S{self._string_bytes}", metadata={"h5py_encoding": "utf-8"})
        if self._matlab:
            if dataset.attrs.get("MATLAB_class") == b"logical":
                return np.dtype(bool)
            if dtype.names == ("real", "imag"):
                return np.result_type(dtype["real"], np.complex64)
        return unpack_dtype(pack_dtype(dtype))

    def _refusal(self, dataset: h5py.Dataset) -> Refusal | None:
        try:
            dtype = dataset.dtype
        except (TypeError, ValueError, NotImplementedError) as error:
            return refusals.wrong("a type that NumPy has", str(error), "Save it as another type")
        if self._matlab and (refusal := refusals.of_matlab_class(dataset)):
            return refusal
        if refusal := refusals.of_type(dtype, self._string_bytes):
            return refusal
        if dataset.shape is None:
            return refusals.wrong("a dataset that holds something", "it is empty", "Leave it out")
        return self._storage_refusal(dataset)

    def _storage_refusal(self, dataset: h5py.Dataset, nested: int = 0) -> Refusal | None:
        how = dataset.id.get_create_plist()
        if how.get_external_count():
            name = how.get_external(0)[0].decode("utf-8", "backslashreplace")
            return refusals.elsewhere(f"its values lie in another file, {name!r}")
        layout = how.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            return self._source_refusal(how, nested + 1)
        if layout != h5py.h5d.CHUNKED:
            return None
        chunk_bytes = math.prod(how.get_chunk()) * dataset.id.get_type().get_size()
        if chunk_bytes > CHUNK_BYTES_MAX:
            return refusals.wrong(
                f"chunks of {CHUNK_BYTES_MAX:,} bytes or less",
                f"it has chunks of {chunk_bytes:,}, each of which HDF5 takes into memory whole",
                "Save it with smaller ones (h5repack -l)",
            )
        for number in range(how.get_nfilters()):
            code, _, _, name = how.get_filter(number)
            if not refusals.has_filter(code):
                return refusals.wrong(
                    "a filter that HDF5 or hdf5plugin has",
                    f"it is compressed by filter {code} ({name.decode('utf-8', 'replace')})",
                    "Save it with one of those",
                )
        return None

    def _source_refusal(self, how: h5py.h5p.PropDCID, nested: int) -> Refusal | None:
        if nested > _NESTED_MAX:
            return refusals.elsewhere("it is virtual, of virtual ones, without end")
        for number in range(how.get_virtual_count()):
            file, path = how.get_virtual_filename(number), how.get_virtual_dsetname(number)
            if file != ".":
                return refusals.elsewhere(f"it is virtual, and a source of it lies in {file!r}")
            if self._links.dataset(path.encode()) is None:
                return refusals.elsewhere(
                    f"it is virtual, and its source {path!r} is not in this file"
                )
            source = h5py.Dataset(h5py.h5d.open(self._file.id, path.encode()))
            if refusal := self._storage_refusal(source, nested):
                return refusal
        return None

    def rows(self, member: str, start: int, count: int) -> np.ndarray:
        found = self._found[member]
        if count >= found.block_rows or not found.member.shape:
            return self._read(found, start, start + count)
        out = np.empty((count, *found.member.shape[1:]), found.member.dtype)
        done = 0
        while done < count:
            block, first = self._block(found, start + done)
            part = block[start + done - first :][: count - done]
            out[done : done + len(part)] = part
            done += len(part)
        return out

    def _block(self, found: _Found, row: int) -> tuple[np.ndarray, int]:
        """The rows that are read together with ``row``, and the first one's number."""
        start = row - row % found.block_rows
        if found.block is None or found.block_start != start:
            for other in self._found.values():
                other.block = None
            stop = min(start + found.block_rows, found.member.shape[0])
            found.block, found.block_start = self._read(found, start, stop), start
        return found.block, found.block_start

    def _read(self, found: _Found, start: int, stop: int) -> np.ndarray:
        dataset, member = found.dataset, found.member
        if not member.shape:
            values = np.asarray(dataset[()], None if member.dtype.kind != "S" else object)
        elif found.transposed:
            values = dataset[..., start:stop].T
        else:
            values = dataset[start:stop]
        if values.dtype.hasobject:
            values = _fixed(values, member.dtype)
        elif values.dtype.names == ("real", "imag") and member.dtype.kind == "c":
            parts = values
            values = np.empty(parts.shape, member.dtype)
            values.real, values.imag = parts["real"], parts["imag"]
        elif values.dtype != member.dtype:
            values = values.astype(member.dtype)
        return np.ascontiguousarray(values) if member.shape else values


def _fixed(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Text of any length in fields of one width.

    :raises BadFile: it is too long.
    """
    texts = [t.encode() if isinstance(t, str) else bytes(t) for t in values.reshape(-1)]
    longest = max(map(len, texts), default=0)
    if longest > dtype.itemsize:
        raise BadFile(
            f"text of {dtype.itemsize} bytes or less ('string_bytes')",
            f"text of {longest} bytes",
            "Set a larger 'string_bytes' in 'options', then drop it again.",
        )
    return np.array(texts, dtype).reshape(values.shape)


def _refused(refusal: Refusal) -> Member:
    return Member(np.dtype("V1"), (), refused=refusal)
