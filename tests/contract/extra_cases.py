"""Files of the formats that need an extra: cases whose libraries are not there say so."""

from __future__ import annotations

import importlib
import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

RANDOM = np.random.default_rng(8)
FRAMES = RANDOM.integers(0, 60_000, (12, 5, 7)).astype(np.uint16)
PICTURES = RANDOM.integers(0, 255, (3, 9, 7, 3)).astype(np.uint8)
FLOATS = RANDOM.standard_normal((40, 3))
TABLE = np.zeros(9, [("x", "f8"), ("n", "u4"), ("hit", "?"), ("name", "S4"), ("v", "i2", (2, 3))])
TABLE["x"] = np.arange(9)
TABLE["n"] = 4_000_000_000
TABLE["hit"][::2] = True
TABLE["name"] = b"ab"
TABLE["v"] = RANDOM.integers(-9, 9, (9, 2, 3))

Arrays = Mapping[str, np.ndarray]
Encode = Callable[[Arrays], bytes]


def loaded(*names: str) -> bool:
    """Whether these libraries are there; they are imported, so that no test measures that."""
    try:
        for name in names:
            importlib.import_module(name)
    except ImportError:
        return False
    return True


LIBRARIES = {
    "tiff": ("tifffile", "imagecodecs"),
    "image": ("PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.BmpImagePlugin"),
    "fits": ("astropy.io.fits", "astropy.io.fits.hdu.compressed"),
    "parquet": ("pyarrow.parquet", "pyarrow.compute"),
    "zarr": ("zarr",),
    "hdf5": (),
    "mat": ("scipy.io",),
}
MISSING = {
    name: "" if loaded(*libraries) else f"pip install 'ingestd[{name}]'"
    for name, libraries in LIBRARIES.items()
}
"""By format: why its tests cannot run here, or nothing."""


def tiff(**how: Any) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        import tifffile

        out = io.BytesIO()
        tifffile.imwrite(out, arrays["data"], **how)
        return out.getvalue()

    return encode


def picture(kind: str, **how: Any) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        from PIL import Image

        out = io.BytesIO()
        Image.fromarray(arrays["data"][0]).save(out, kind, **how)
        return out.getvalue()

    return encode


def jpeg_as_read(pixels: np.ndarray, **how: Any) -> tuple[Encode, Arrays]:
    """A JPEG keeps no pixel as it was: what Pillow reads of it is what counts."""
    if MISSING["image"]:
        return picture("JPEG"), {"data": pixels[None]}
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **how)
    return lambda arrays: out.getvalue(), {"data": np.array(Image.open(out))[None]}


def fits(*, compressed: bool = False, table: bool = False) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        from astropy.io import fits

        out = io.BytesIO()
        kind = fits.CompImageHDU if compressed else fits.ImageHDU
        kind = fits.BinTableHDU if table else kind
        ((name, array),) = arrays.items()
        if name == "PRIMARY":
            hdus = [fits.PrimaryHDU(array)]
        else:
            hdus = [fits.PrimaryHDU(), kind(array, name=name)]
        fits.HDUList(hdus).writeto(out)
        return out.getvalue()

    return encode


def arrow_table(arrays: Arrays) -> Any:
    import pyarrow as pa

    def column(array: np.ndarray) -> Any:
        if array.ndim == 2:
            return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
        return (
            pa.array(array.tolist(), pa.binary(2)) if array.dtype.kind == "V" else pa.array(array)
        )

    return pa.table({name: column(array) for name, array in arrays.items() if name != "data"})


def parquet(**how: Any) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        import pyarrow.parquet

        out = io.BytesIO()
        pyarrow.parquet.write_table(arrow_table(arrays), out, row_group_size=4, **how)
        return out.getvalue()

    return encode


def arrow(compression: str | None) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        import pyarrow as pa

        out, table = io.BytesIO(), arrow_table(arrays)
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(out, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=4)
        return out.getvalue()

    return encode


def columns() -> Arrays:
    """Columns of all kinds, and the table of them as ``data``."""
    found = {
        "x": np.arange(9) / 7,
        "n": np.arange(9, dtype=np.int16),
        "hit": np.arange(9) % 2 == 0,
        "at": np.arange(9).astype("M8[us]"),
        "id": np.array([b"ab", b"cd", b"e\0"] * 3).view("V2"),
        "v": np.arange(18, dtype=np.float32).reshape(9, 2),
    }
    table = np.zeros(9, [(name, a.dtype, a.shape[1:]) for name, a in found.items()])
    for name, array in found.items():
        table[name] = array
    return {"data": table, **found}


def zarr(version: int, method: int = zipfile.ZIP_STORED, **how: Any) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        import zarr
        from zarr.storage import MemoryStore

        entries: dict[str, Any] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.create_group(MemoryStore(entries), zarr_format=version)
            for name, array in arrays.items():
                made = root.create_array(name, shape=array.shape, dtype=array.dtype, **how)
                made[...] = array
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, data in entries.items():
                archive.writestr(name, data.to_bytes())
        return out.getvalue()

    return encode


def tiff_cases() -> list[dict[str, Any]]:
    # tifffile leaves up to 24 bytes unused at the end.
    frames = {"format": "tiff", "arrays": {"data": FRAMES}, "padding_bytes": 24}
    colour = {"format": "tiff", "arrays": {"data": PICTURES}, "padding_bytes": 24}
    return [
        {"name": "tiff", "encode": tiff(), **frames},
        {"name": "tiff one page", **frames, "arrays": {"data": FRAMES[:1]},
         "encode": lambda arrays: tiff()({"data": arrays["data"][0]})},
        {"name": "tiff big, big endian", "encode": tiff(bigtiff=True, byteorder=">"), **frames},
        {"name": "tiff tiled", "encode": tiff(tile=(16, 16), compression="zstd"), **frames},
        {"name": "tiff deflated", "encode": tiff(compression="zlib", predictor=True), **frames},
        {"name": "tiff colour", "encode": tiff(photometric="rgb"), **colour},
        {"name": "tiff imagej", "encode": tiff(imagej=True), **frames},
        {"name": "tiff ome", "encode": tiff(ome=True), **frames},
    ]  # fmt: skip


def image_cases() -> list[dict[str, Any]]:
    gray, colour = {"data": PICTURES[:1, ..., 0].copy()}, {"data": PICTURES[:1]}
    jpeg, jpeg_arrays = jpeg_as_read(PICTURES[0])
    slow, slow_arrays = jpeg_as_read(PICTURES[0, ..., 0], progressive=True)
    return [
        {"name": name, "format": "image", "arrays": arrays, "encode": encode}
        for name, arrays, encode in [
            ("png", colour, picture("PNG")),
            ("png gray", gray, picture("PNG")),
            ("png gray of 16 bits", {"data": FRAMES[:1]}, picture("PNG")),
            ("png bits", {"data": FRAMES[:1] > 30_000}, picture("PNG")),
            ("bmp", colour, picture("BMP")),
            ("bmp gray", gray, picture("BMP")),
            ("jpeg", jpeg_arrays, jpeg),
            ("jpeg progressive", slow_arrays, slow),
        ]
    ]


def fits_cases() -> list[dict[str, Any]]:
    image = FLOATS.astype(np.float32)[None]
    return [
        {"name": name, "format": "fits", "arrays": arrays, "encode": encode}
        for name, arrays, encode in [
            ("fits cube", {"PRIMARY": FRAMES}, fits()),
            ("fits image", {"PRIMARY": image}, lambda a: fits()({"PRIMARY": a["PRIMARY"][0]})),
            ("fits extension", {"SCI": FRAMES.astype(np.int8)}, fits()),
            ("fits table", {"EVENTS": TABLE}, fits(table=True)),
            ("fits compressed", {"SCI": FRAMES}, fits(compressed=True)),
        ]
    ]


def parquet_cases() -> list[dict[str, Any]]:
    return [
        {"name": name, "format": "parquet", "arrays": columns(), "encode": encode}
        for name, encode in [
            ("parquet", parquet()),
            ("parquet zstd", parquet(compression="zstd", use_dictionary=False)),
            ("arrow", arrow(None)),
            ("arrow lz4", arrow("lz4")),
        ]
    ]


def zarr_cases() -> list[dict[str, Any]]:
    two = {"f": FRAMES, "run/x": FLOATS}
    return [
        {"name": name, "format": "zarr", "arrays": arrays, "encode": encode}
        for name, arrays, encode in [
            ("zarr 3", two | {"at": np.array(3.5)}, zarr(3)),
            ("zarr 3 chunks", {"f": FRAMES}, zarr(3, chunks=(5, 3, 7))),
            ("zarr 3 shards", {"f": FRAMES}, zarr(3, chunks=(2, 5, 7), shards=(8, 5, 7))),
            ("zarr 3 deflated", {"x": FLOATS}, zarr(3, zipfile.ZIP_DEFLATED, compressors=None)),
            ("zarr 2", {"f": FRAMES.astype(">u2"), "run/x": FLOATS}, zarr(2)),
            ("zarr no rows", {"f": np.zeros((0, 4))}, zarr(3, chunks=(2, 4))),
        ]
    ]


def hdf5(**how: Any) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        import h5py

        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, **(how if array.ndim else {}))
        return out.getvalue()

    return encode


def nexus(arrays: Arrays) -> bytes:
    """Links of both kinds, a circle, and a virtual dataset of the file's own."""
    import h5py

    out = io.BytesIO()
    data = arrays["/entry/detector/data"]
    with h5py.File(out, "w", libver=("v110", "v110")) as file:
        file["entry/detector/data"] = data
        file["entry/data"] = h5py.SoftLink("/entry/detector/data")
        file["entry/detector/up"] = file["entry"]
        file["hard"] = file["entry/detector/data"]
        layout = h5py.VirtualLayout(data.shape, data.dtype)
        layout[...] = h5py.VirtualSource(".", "entry/detector/data", data.shape)
        file.create_virtual_dataset("virtual", layout)
    return out.getvalue()


def hdf5_cases() -> list[dict[str, Any]]:
    kinds = {"/t": TABLE, "/at": np.array(3.5), "/run/x": FLOATS, "/none": np.zeros((0, 4))}
    linked = ["/entry/detector/data", "/entry/data", "/hard", "/virtual"]
    return [
        {"name": name, "format": "hdf5", "arrays": arrays, "encode": encode}
        for name, arrays, encode in [
            ("hdf5", kinds, hdf5()),
            ("hdf5 chunks", {"/f": FRAMES}, hdf5(chunks=(5, 3, 7), compression="gzip")),
            ("hdf5 big endian", {"/f": FRAMES.astype(">u2")}, hdf5(chunks=(5, 3, 7), shuffle=True)),
            ("nexus", dict.fromkeys(linked, FRAMES), nexus),
        ]
    ]


def mat(**how: Any) -> Encode:
    def encode(arrays: Arrays) -> bytes:
        import scipy.io

        out = io.BytesIO()
        scipy.io.savemat(out, dict(arrays), **how)
        return out.getvalue()

    return encode


def mat73(arrays: Arrays) -> bytes:
    """As MATLAB writes it: the axes the other way round, and the class as an attribute."""
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            stored, kind = array.T, {"f": "double", "b": "logical"}.get(array.dtype.kind)
            if array.dtype.kind == "c":
                stored = np.zeros(stored.shape, [("real", "f8"), ("imag", "f8")])
                stored["real"], stored["imag"] = array.T.real, array.T.imag
                kind = "double"
            elif kind == "logical":
                stored = stored.astype(np.uint8)
            file[name] = stored
            file[name].attrs["MATLAB_class"] = np.bytes_(kind or array.dtype.name)
        file["#refs#/a"] = np.arange(3)
    data = bytearray(out.getvalue())
    data[:128] = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    return bytes(data)


def mat_cases() -> list[dict[str, Any]]:
    kinds = {"f": FRAMES, "x": FLOATS, "hit": FLOATS > 0, "z": FLOATS + 1j}
    return [
        {"name": name, "format": "mat", "arrays": arrays, "encode": encode}
        for name, arrays, encode in [
            ("mat 5", {"f": FRAMES}, mat()),
            ("mat 7", {"x": FLOATS}, mat(do_compression=True)),
            ("mat 5, all kinds", kinds, mat()),
            ("mat 7.3", kinds, mat73),
        ]
    ]


EXTRA_CASES = [
    case | {"missing": MISSING[case["format"]]}
    for cases in (
        tiff_cases,
        image_cases,
        fits_cases,
        parquet_cases,
        zarr_cases,
        hdf5_cases,
        mat_cases,
    )
    for case in cases()
]
