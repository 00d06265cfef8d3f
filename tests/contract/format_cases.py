"""Files of every format for the shared suite. A new format adds its cases to ``CASES``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from contract.extra_cases import EXTRA_CASES

from ingestd.formats import OpenFile
from ingestd.formats.registry import FORMATS

RANDOM = np.random.default_rng(7)
FLOATS = RANDOM.standard_normal((40, 3))
FRAMES = RANDOM.integers(0, 4000, (12, 5, 7)).astype(np.uint16)
POINTS = np.zeros(9, [("x", "<f8"), ("hit", "?"), ("name", "S4"), ("at", "<M8[ns]")])
POINTS["x"] = np.arange(9)
POINTS["name"] = b"ab"


@dataclass(frozen=True)
class Case:
    """``arrays`` are the members that ``encode`` puts into a file of ``format``.

    ``cut_at_line_end_is_a_file``: a cut there gives a shorter file that nothing tells from a whole.
    ``padding_bytes``: so many at its end say nothing, and nothing tells that they lack.
    ``missing``: the install line of the libraries that make the file, if they are not there.
    """

    name: str
    format: str
    arrays: Mapping[str, np.ndarray]
    encode: Callable[[Mapping[str, np.ndarray]], bytes]
    options: Mapping[str, Any] = field(default_factory=dict)
    cut_at_line_end_is_a_file: bool = False
    padding_bytes: int = 0
    missing: str = ""

    def bytes(self) -> bytes:
        return self.encode(self.arrays)


def open_file(format_name: str, file: BinaryIO, **options: Any) -> OpenFile:
    chosen = FORMATS[format_name]
    return chosen.open(file, chosen.Options(**options))


def open_bytes(format_name: str, data: bytes, **options: Any) -> OpenFile:
    return open_file(format_name, io.BytesIO(data), **options)


def joined(opened: OpenFile, member: str, slab_bytes: int) -> np.ndarray:
    """All slabs of a member as one array."""
    info = opened.members[member]
    slabs = list(opened.slabs(member, slab_bytes))
    assert all(slab.dtype == info.dtype for slab in slabs)
    if not info.shape:
        return slabs[0]
    whole = np.empty((sum(map(len, slabs)), *info.shape[1:]), info.dtype)
    start = 0
    for slab in slabs:
        whole[start : start + len(slab)] = slab
        start += len(slab)
    return whole


def npy(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.save(out, arrays["data"])
    return out.getvalue()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def npz_deflated(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def zipped(entries: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def npy_header(descr: str, shape: str, version: bytes = b"\x01\x00") -> bytes:
    """The bytes of a ``.npy`` up to its data, with any header text."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text


def table(
    delimiter: str = ",", newline: str = "\n", header: str = ""
) -> Callable[[Mapping[str, np.ndarray]], bytes]:
    def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
        lines = [header] if header else []
        lines += [delimiter.join(map(repr, row)) for row in arrays["data"].tolist()]
        return "".join(line + newline for line in lines).encode()

    return encode


def raw(header: bytes = b"") -> Callable[[Mapping[str, np.ndarray]], bytes]:
    return lambda arrays: header + arrays["data"].tobytes()


CASES = [
    Case("npy", "npy", {"data": FLOATS}, npy),
    Case("npy frames", "npy", {"data": FRAMES}, npy),
    Case("npy fortran order", "npy", {"data": np.asfortranarray(FRAMES)}, npy),
    Case("npy records", "npy", {"data": POINTS}, npy),
    Case("npy big endian", "npy", {"data": FLOATS.astype(">c16")}, npy),
    Case("npy scalar", "npy", {"data": np.array(3.5)}, npy),
    Case("npy no rows", "npy", {"data": np.zeros((0, 4))}, npy),
    Case("npy rows of nothing", "npy", {"data": np.zeros((4, 0))}, npy),
    Case("npy text", "npy", {"data": np.array(["ab", "c"])}, npy),
    Case("npz", "npz", {"frames": FRAMES, "points": POINTS, "at": np.array(1)}, npz),
    Case("npz deflated", "npz", {"frames": FRAMES, "run/floats": FLOATS}, npz_deflated),
    Case("npz fortran order", "npz", {"f": np.asfortranarray(FRAMES)}, npz_deflated),
    Case("npz no rows", "npz", {"none": np.zeros((0, 4))}, npz),
    Case("raw", "raw", {"data": FLOATS}, raw(), {"dtype": "<f8", "shape": (3,), "rows": 40}),
    Case(
        "raw big endian after a header",
        "raw",
        {"data": FRAMES.astype(">u2")},
        raw(b"a header"),
        {"dtype": ">u2", "shape": (5, 7), "header": 8, "rows": 12},
    ),
    Case("raw values", "raw", {"data": POINTS["x"]}, raw(), {"dtype": "<f8", "rows": 9}),
    Case("csv", "csv", {"data": FLOATS}, table(), cut_at_line_end_is_a_file=True),
    Case(
        "csv names",
        "csv",
        {"data": FLOATS, "x": FLOATS[:, 0], "y z": FLOATS[:, 1], "w": FLOATS[:, 2]},
        table(header="x,y z,w"),
        cut_at_line_end_is_a_file=True,
    ),
    Case(
        "tsv with carriage returns",
        "csv",
        {"data": FLOATS},
        table("\t", "\r\n"),
        cut_at_line_end_is_a_file=True,
    ),
    Case(
        "csv blanks",
        "csv",
        {"data": FLOATS},
        table("  ", header="# measured"),
        {"delimiter": "whitespace"},
        cut_at_line_end_is_a_file=True,
    ),
    Case("csv one column", "csv", {"data": FLOATS[:, :1]}, table(), cut_at_line_end_is_a_file=True),
    Case("csv no rows", "csv", {"data": np.zeros((0, 2))}, table(header="a,b"), {"header": True}),
    *(Case(**case) for case in EXTRA_CASES),
]
