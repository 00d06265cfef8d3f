"""What every sink guarantees. A new sink adds itself to ``SINKS``, with how others read it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from helpers import ENVIRONMENT

from ingestd.errors import BadFile
from ingestd.layout import RECORD, records_path
from ingestd.model import RowRange, RowType
from ingestd.sinks import DatasetSpec, Sink
from ingestd.sinks.hdf5 import Hdf5Sink

PLAIN_H5PY = """
import json, sys, h5py
try:
    import hdf5plugin
except ImportError:
    pass
request = json.loads(sys.argv[1])
with h5py.File(request["path"], "r", swmr=True) as file:
    dataset = file[request["dataset"]]
    rows = dataset[:]
    if request["attr"]:
        print(json.dumps(str(file[request["attr"][0]].attrs[request["attr"][1]])))
    else:
        print(json.dumps([str(dataset.dtype), dataset.shape, rows.tobytes().hex()]))
"""


@dataclass(frozen=True)
class Kind:
    """One sink: how to open it at a path, and how a program without us reads a dataset of it."""

    name: str
    open: Callable[[Path], Sink]
    reader: str
    compressions: tuple[str, ...]
    storage: tuple[str, ...]
    """With filters beside the compression; ``parts``: in chunks of a part of a row."""


SINKS = [
    Kind(
        "hdf5",
        lambda path: Hdf5Sink(path.with_suffix(".h5")),
        PLAIN_H5PY,
        (
            *("none", "gzip", "gzip:1", "lzf", "lz4", "zstd", "zstd:9"),
            *("gzip:4", "bitshuffle", "blosc", "blosc:9", "blosc2", "blosc2:1"),
        ),
        (
            *("none+fletcher32", "gzip+shuffle+fletcher32", "lzf+fletcher32", "none+scaleoffset"),
            *("none+parts", "gzip+parts", "lzf+parts", "none+fletcher32+parts"),
        ),
    )
]


class Opened:
    """A sink and its place."""

    def __init__(self, kind: Kind, root: Path) -> None:
        self.kind, self.root = kind, root
        self.sink = kind.open(root / "out")

    def reopen(self) -> Sink:
        self.sink.close()
        self.sink = self.kind.open(self.root / "out")
        return self.sink

    def _ask(self, dataset: str, attr: tuple[str, str] | None = None) -> Any:
        request = {"path": str(self.root / f"out.{'h5'}"), "dataset": dataset, "attr": attr}
        done = subprocess.run(
            [sys.executable, "-c", self.kind.reader, json.dumps(request)],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def read(self, dataset: str, like: np.ndarray | None = None) -> np.ndarray:
        """All rows, as another process sees them now."""
        dtype, shape, data = self._ask(dataset)
        kind = np.dtype(dtype) if like is None else like.dtype
        return np.frombuffer(bytes.fromhex(data), kind).reshape(shape)

    def attr(self, path: str, name: str) -> str:
        return str(self._ask("/data", (path, name)))


@pytest.fixture(params=SINKS, ids=lambda kind: kind.name)
def opened(request, tmp_path) -> Iterator[Opened]:
    made = Opened(request.param, tmp_path)
    yield made
    made.sink.close()


def spec(dtype: str = "i8", shape: tuple[int, ...] = (), **more: Any) -> DatasetSpec:
    return DatasetSpec(RowType(np.dtype(dtype), shape), **more)


def made(opened: Opened, **specs: DatasetSpec) -> Sink:
    """The sink with datasets ``/name``."""
    named: Mapping[str, DatasetSpec] = {f"/{name}": one for name, one in specs.items()}
    opened.sink.ensure(named or {"/data": spec()}, {})
    return opened.sink


def digest_of(rows: np.ndarray) -> str:
    return xxhash.xxh3_128(np.ascontiguousarray(rows).tobytes()).hexdigest()


def test_a_new_sink_holds_nothing(opened) -> None:
    assert dict(opened.sink.types) == {}
    opened.sink.flush(durable=True)


def test_datasets_exist_once_ensured_with_the_records_beside_them(opened) -> None:
    sink = made(opened, data=spec("f4", (2, 3)), other=spec("S5"))

    for _ in range(2):
        assert sink.types["/data"] == RowType(np.dtype("f4"), (2, 3))
        assert sink.types["/other"] == RowType(np.dtype("S5"), ())
        assert sink.types[records_path("/data")] == RowType(RECORD, ())
        assert sink.rows("/data") == sink.rows(records_path("/data")) == 0
        sink = opened.reopen()


def test_rows_get_the_next_numbers(opened) -> None:
    sink = made(opened)

    assert sink.append("/data", np.arange(3)) == RowRange(0, 3)
    assert sink.append("/data", np.arange(0)) == RowRange(3, 3)
    assert sink.append("/data", np.arange(2)) == RowRange(3, 5)
    assert sink.rows("/data") == 5


def test_another_process_reads_the_rows_after_a_flush(opened) -> None:
    sink = made(opened)
    for start in (0, 10, 20):
        sink.append("/data", np.arange(start, start + 10))

        sink.flush()

        assert np.array_equal(opened.read("/data"), np.arange(start + 10))


def test_what_was_closed_is_there_when_it_is_opened_again(opened) -> None:
    sink = made(opened)
    sink.append("/data", np.arange(7))

    sink = opened.reopen()

    assert sink.rows("/data") == 7
    assert sink.append("/data", np.array([99])) == RowRange(7, 8)
    sink.flush()
    assert opened.read("/data").tolist() == [*range(7), 99]


def test_closing_twice_is_harmless(opened) -> None:
    sink = made(opened)

    sink.close()
    sink.close()


def test_ensuring_what_exists_changes_nothing(opened) -> None:
    sink = made(opened)
    sink.append("/data", np.arange(4))

    sink.ensure({"/data": spec("f4", (9,))}, {})

    assert sink.types["/data"] == RowType(np.dtype("i8"), ())
    assert sink.rows("/data") == 4


def test_a_dataset_can_be_added_while_others_hold_rows_that_wait(opened) -> None:
    sink = made(opened)
    sink.append("/data", np.arange(4))

    sink.ensure({"/data": spec(), "/late/x": spec("u1", (2,))}, {})
    sink.append("/data", np.arange(4, 6))
    sink.append("/late/x", np.ones((1, 2), "u1"))
    sink.flush()

    assert np.array_equal(opened.read("/data"), np.arange(6))
    assert opened.read("/late/x").tolist() == [[1, 1]]


def test_datasets_are_made_all_or_none(opened) -> None:
    sink = made(opened)
    sink.append("/data", np.arange(4))
    twice = np.dtype({"names": ["a\0b", "a\0c"], "formats": ["i4", "i4"]})

    with pytest.raises(BadFile, match="can hold"):
        sink.ensure({"/good": spec(), "/bad": DatasetSpec(RowType(twice, ()))}, {})

    assert set(sink.types) == {"/data", records_path("/data")}
    sink.append("/data", np.arange(4, 6))
    sink.flush()
    assert np.array_equal(opened.read("/data"), np.arange(6))


def test_the_first_datasets_are_made_all_or_none_too(opened) -> None:
    twice = np.dtype({"names": ["a\0b", "a\0c"], "formats": ["i4", "i4"]})

    with pytest.raises(BadFile):
        opened.sink.ensure({"/good": spec(), "/bad": DatasetSpec(RowType(twice, ()))}, {})

    assert dict(opened.sink.types) == {}
    made(opened).append("/data", np.arange(3))
    opened.sink.flush()
    assert len(opened.read("/data")) == 3


def test_attributes_of_datasets_and_groups_are_set(opened) -> None:
    opened.sink.ensure(
        {"/data": spec(), "/entry/x": spec(attrs={"units": "mm"})},
        {"/": {"title": "run"}, "/entry": {"NX_class": "NXentry"}},
    )

    assert opened.attr("/entry/x", "units") == "mm"
    assert opened.attr("/entry", "NX_class") == "NXentry"
    assert opened.attr("/", "title") == "run"


@pytest.mark.parametrize("chunk_rows", [None, 1, 3, 1000])
def test_any_sizes_of_appends_keep_rows_and_digests(opened, chunk_rows: int | None) -> None:
    sink = made(opened, data=spec("u2", (5,), chunk_rows=chunk_rows))
    rows = np.random.default_rng(1).integers(0, 9999, (2000, 5)).astype("u2")
    ranges, start = [], 0
    for count in (1, 2, 0, 3, 999, 4, 991):
        ranges.append(sink.append("/data", rows[start : start + count]))
        start += count

    sink.flush()

    assert np.array_equal(opened.read("/data"), rows)
    for r in ranges:
        assert sink.digest("/data", r) == digest_of(rows[r.start : r.stop])
    assert sink.digest("/data", RowRange(2, 1500)) == digest_of(rows[2:1500])


def test_a_cut_takes_back_rows_and_the_next_take_their_place(opened) -> None:
    sink = made(opened, a=spec(chunk_rows=3), b=spec())
    sink.append("/a", np.arange(100))
    sink.append("/b", np.arange(100))

    sink.cut({"/a": 10, "/b": 0})

    assert (sink.rows("/a"), sink.rows("/b")) == (10, 0)
    assert sink.append("/a", np.array([-1, -2])) == RowRange(10, 12)
    sink.flush()
    assert opened.read("/a").tolist() == [*range(10), -1, -2]
    assert opened.read("/b").tolist() == []


def test_a_cut_leaves_rows_of_other_datasets_that_wait(opened) -> None:
    sink = made(opened, a=spec(), b=spec())
    sink.append("/a", np.arange(5))
    sink.append("/b", np.arange(5))

    sink.cut({"/a": 2})
    sink.flush()

    assert opened.read("/b").tolist() == [*range(5)]


def test_rows_after_a_cut_read_as_written_not_as_before(opened) -> None:
    sink = made(opened, data=spec(chunk_rows=4, compression="gzip"))
    for number in range(5):
        sink.append("/data", np.full(10, number))
        sink.flush()
        sink.cut({"/data": 3})
        sink.append("/data", np.full(6, -number))
        sink.flush()

        expected = [0, 0, 0] + [-number] * 6
        assert opened.read("/data").tolist() == expected
        sink.cut({"/data": 3})


def test_uncompressed_rows_are_seen_after_any_flush(opened) -> None:
    sink = made(opened)
    sink.append("/data", np.arange(7))
    assert sink.visible("/data") == 0

    sink.flush(whole=False)

    assert sink.visible("/data") == 7
    assert opened.read("/data").tolist() == [*range(7)]


def test_a_partial_compressed_chunk_is_held_back_until_a_whole_flush(opened) -> None:
    sink = made(opened, data=spec(chunk_rows=4, compression="gzip"))
    sink.append("/data", np.arange(10))

    sink.flush(whole=False)
    assert (sink.rows("/data"), sink.visible("/data")) == (10, 8)
    assert opened.read("/data").tolist() == [*range(8)]
    assert sink.digest("/data", RowRange(0, 8)) == digest_of(np.arange(8))

    sink.flush()
    assert sink.visible("/data") == 10
    assert opened.read("/data").tolist() == [*range(10)]


def test_rows_that_are_held_back_are_there_after_a_close(opened) -> None:
    sink = made(opened, data=spec(chunk_rows=4, compression="gzip"))
    sink.append("/data", np.arange(10))
    sink.flush(whole=False)

    sink = opened.reopen()

    assert sink.rows("/data") == sink.visible("/data") == 10
    assert opened.read("/data").tolist() == [*range(10)]


def test_rows_are_as_they_were_appended_whatever_becomes_of_the_block_before(opened) -> None:
    sink = made(opened, data=spec(chunk_rows=10, compression="gzip"))
    blocks = [np.arange(start, start + 7) for start in range(0, 700, 7)]

    for block in blocks:
        sink.append("/data", block)
    del blocks
    sink.flush()

    assert np.array_equal(opened.read("/data"), np.arange(700))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "compression"),
    [(kind, how) for kind in SINKS for how in (*kind.compressions, *kind.storage)],
)
def test_any_calls_in_any_order_keep_the_rows(
    tmp_path, kind: Kind, compression: str, seed: int
) -> None:
    compression, *filters = compression.split("+")
    name, _, level = compression.partition(":")
    one = spec(
        "u2",
        (3,),
        chunk_rows=8,
        compression=name,
        level=int(level) if level else None,
        fill=77,
        filters=tuple(f for f in filters if f != "parts") if filters else None,
        chunks=(8, 2) if "parts" in filters else None,
    )
    opened, rng, seen = Opened(kind, tmp_path), np.random.default_rng(seed), 0
    sink = made(opened, data=one)
    rows = np.empty((0, 3), "u2")
    for turn in range(60):
        match rng.choice(["append"] * 4 + ["part", "whole", "cut", "reopen", "ensure"]):
            case "append":
                block = rng.integers(0, 60_000, (int(rng.integers(0, 30)), 3)).astype("u2")
                sink.append("/data", block)
                rows = np.concatenate([rows, block])
            case "part":
                sink.flush(whole=False)
                seen = sink.visible("/data")
                assert seen >= len(rows) - 7
            case "whole":
                sink.flush()
                seen = len(rows)
            case "cut":
                rows = rows[: len(rows) - int(rng.integers(0, 20))]
                sink.cut({"/data": len(rows)})
                seen = min(seen, len(rows))
            case "reopen":
                sink = opened.reopen()
                seen = len(rows)
            case "ensure":
                sink.ensure({f"/more/{turn}": one}, {})
        assert sink.rows("/data") == len(rows)
        assert seen <= sink.visible("/data") <= len(rows)
        assert sink.digest("/data", RowRange(0, seen)) == digest_of(rows[:seen])
    sink.close()

    assert np.array_equal(opened.read("/data"), rows)


def test_records_are_rows_like_others(opened) -> None:
    sink = made(opened)
    records = np.zeros(300, RECORD)
    records["file_id"], records["name"] = np.arange(300), b"n"

    sink.append(records_path("/data"), records)
    sink.flush(durable=True)

    found = opened.read(records_path("/data"), like=records)
    assert np.array_equal(found, records)


@pytest.mark.parametrize(
    ("kind", "compression"), [(kind, c) for kind in SINKS for c in kind.compressions]
)
def test_each_compression_is_readable_by_others(tmp_path, kind: Kind, compression: str) -> None:
    name, _, level = compression.partition(":")
    opened = Opened(kind, tmp_path)
    sink = made(
        opened,
        data=spec("i4", (50,), compression=name, level=int(level) if level else None),
    )
    rows = np.arange(50_000, dtype="i4").reshape(1000, 50)
    for part in np.array_split(rows, 3):
        sink.append("/data", part)
        sink.flush()

    found = opened.read("/data")
    sink.close()

    assert np.array_equal(found, rows)
    assert np.array_equal(opened.read("/data"), rows)


def test_a_row_larger_than_a_chunk_should_be_is_a_chunk(opened) -> None:
    sink = made(opened, data=spec("f8", (600, 600)))
    rows = np.random.default_rng(2).standard_normal((2, 600, 600))

    sink.append("/data", rows)
    sink.flush()

    assert sink.digest("/data", RowRange(0, 2)) == digest_of(rows)
