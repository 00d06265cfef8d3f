"""zarr: which arrays are members, and which stores are refused."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from contract.extra_cases import zarr as encode
from contract.format_cases import open_bytes

from ingestd.errors import BadFile
from ingestd.formats.zarrcodecs import unpacked_bytes

zarr = pytest.importorskip("zarr", reason="pip install 'ingestd[zarr]'")
numcodecs = pytest.importorskip("numcodecs", reason="pip install 'ingestd[zarr]'")

FRAMES = np.arange(40 * 5 * 7, dtype=np.uint16).reshape(40, 5, 7)


def entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def changed(data: bytes, key: str, **fields: Any) -> bytes:
    """The store with other fields in the metadata at ``key``."""
    files = entries(data)
    files[key] = json.dumps(json.loads(files[key]) | fields).encode()
    return zipped(files)


def rows(data: bytes, member: str = "f", slab_bytes: int = 1000) -> np.ndarray:
    return np.concatenate(list(open_bytes("zarr", data).slabs(member, slab_bytes)))


@pytest.mark.parametrize("name", ["blosc", "gzip", "zstd"])
@pytest.mark.parametrize("version", [2, 3])
def test_the_usual_compressors_are_taken(name: str, version: int) -> None:
    made = {
        (2, "blosc"): numcodecs.Blosc(),
        (2, "gzip"): numcodecs.GZip(),
        (2, "zstd"): numcodecs.Zstd(),
        (3, "blosc"): zarr.codecs.BloscCodec(cname="lz4"),
        (3, "gzip"): zarr.codecs.GzipCodec(),
        (3, "zstd"): zarr.codecs.ZstdCodec(),
    }[version, name]

    data = encode(version, chunks=(6, 5, 4), compressors=made)({"f": FRAMES})

    np.testing.assert_array_equal(rows(data), FRAMES)


def test_an_array_alone_is_called_data_and_a_directory_zipped_by_name_is_looked_into() -> None:
    files = entries(encode(3)({"f": FRAMES}))
    alone = {name.removeprefix("f/"): data for name, data in files.items() if name[:2] == "f/"}
    below = {"run 1.zarr/": b""} | {f"run 1.zarr/{name}": data for name, data in files.items()}

    assert list(open_bytes("zarr", zipped(alone)).members) == ["data"]
    np.testing.assert_array_equal(rows(zipped(below)), FRAMES)


def test_chunks_that_were_never_written_read_as_the_fill_value() -> None:
    files = entries(encode(3, chunks=(10, 5, 7), fill_value=9)({"f": FRAMES}))
    del files["f/c/1/0/0"]

    found = rows(zipped(files))

    assert (found[10:20] == 9).all()
    np.testing.assert_array_equal(found[20:], FRAMES[20:])


def test_text_is_left_out_and_refused_if_there_is_nothing_else() -> None:
    texts = encode(3)({"f": np.array(["ab", "c"], dtype=np.dtypes.StringDType())})

    with pytest.raises(BadFile, match="fixed width"):
        open_bytes("zarr", texts)

    both = zipped(entries(texts) | {f"g{k[1:]}": v for k, v in entries(encode(3)({"f": FRAMES})).items() if k[0] == "f"})  # fmt: skip # noqa: E501
    assert list(open_bytes("zarr", both).members) == ["g"]


@pytest.mark.parametrize("codec", [{"id": "pickle", "protocol": 5}, {"id": "json2"}, {"id": "no"}])
def test_codecs_that_could_run_code_are_never_called(codec: dict[str, Any]) -> None:
    data = encode(2, chunks=(10, 5, 7))({"f": FRAMES})

    for fields in ({"compressor": codec}, {"filters": [codec]}):
        with pytest.raises(BadFile):
            rows(changed(data, "f/.zarray", **fields))


def test_codecs_in_shards_are_looked_at_too() -> None:
    data = encode(3, chunks=(2, 5, 7), shards=(8, 5, 7))({"f": FRAMES})
    codecs = json.loads(entries(data)["f/zarr.json"])["codecs"]
    codecs[0]["configuration"]["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})

    with pytest.raises(BadFile):
        open_bytes("zarr", changed(data, "f/zarr.json", codecs=codecs))


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [2**40, 5, 7]},
        {"shape": [-1, 5, 7]},
        {"shape": [10**30, 5, 7]},
        {"chunks": [2**30, 5, 7]},
        {"chunks": [0, 5, 7]},
        {"shape": [3_000_000, 1, 1], "chunks": [1, 1, 1]},
        {"dtype": "|O"},
        {"dtype": "<f99"},
    ],
    ids=str,
)
def test_metadata_that_promises_too_much_is_refused(fields: dict[str, Any]) -> None:
    data = encode(2, chunks=(10, 5, 7))({"f": FRAMES})

    with pytest.raises(BadFile):
        open_bytes("zarr", changed(data, "f/.zarray", **fields))


@pytest.mark.parametrize("codec", ["gzip", "zlib", "blosc", "zstd", "lz4"])
def test_a_chunk_that_unpacks_to_more_than_a_chunk_is_refused(codec: str) -> None:
    packer = numcodecs.get_codec({"id": codec})
    files = entries(encode(2, chunks=(10, 5, 7), compressors=packer)({"f": FRAMES}))
    files["f/1.0.0"] = bytes(packer.encode(bytes(1 << 20)))

    with pytest.raises(BadFile, match="unpacks to more"):
        rows(zipped(files))


def test_a_chunk_that_is_stored_in_more_than_a_chunk_is_refused_unread() -> None:
    files = entries(encode(2, chunks=(10, 5, 7), compressors=None)({"f": FRAMES}))
    files["f/1.0.0"] = bytes(1 << 20)

    with pytest.raises(BadFile, match="or little more"):
        rows(zipped(files, zipfile.ZIP_DEFLATED))


def test_gzip_in_several_members_is_counted_whole_and_not_further_than_the_limit() -> None:
    data = gzip.compress(bytes(1000)) * 3

    assert unpacked_bytes("gzip", data, 10_000) == 3000
    assert 1500 < unpacked_bytes("gzip", data * 1000, 1500) < 1 << 20


def test_a_damaged_chunk_is_refused() -> None:
    files = entries(encode(3, chunks=(10, 5, 7))({"f": FRAMES}))
    files["f/c/1/0/0"] = files["f/c/1/0/0"][:20] + bytes(20)

    with pytest.raises(BadFile, match="cannot be read"):
        rows(zipped(files))
