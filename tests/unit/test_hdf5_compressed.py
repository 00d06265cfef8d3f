from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from helpers import ENVIRONMENT

from ingestd.errors import BrokenInvariant, BusyWorld
from ingestd.model import RowRange, RowType
from ingestd.repair import repair
from ingestd.sinks import DatasetSpec, hdf5_compressed, partial
from ingestd.sinks.hdf5 import Hdf5Sink

CODECS = ("gzip", "gzip:0", "gzip:4", "lzf", "lz4", "zstd", "bitshuffle", "blosc", "blosc2")
STORED = (
    *CODECS,
    # With other filters, and in chunks of 30 values of a row.
    *("gzip+fletcher32", "none+fletcher32", "none+scaleoffset", "zstd+shuffle+fletcher32"),
    *("none/30", "zstd/30", "lzf/30", "none+scaleoffset/30"),
)


def opened(path: Path, compression: str = "gzip", rows: int = 8, **more: object) -> Hdf5Sink:
    """``compression``: ``name:level``, ``+filter`` for each filter, ``/values`` of a row."""
    compression, _, values = compression.partition("/")
    compression, *filters = compression.split("+")
    name, _, level = compression.partition(":")
    sink = Hdf5Sink(path)
    type_ = RowType(np.dtype("i8"), (100,))
    spec = DatasetSpec(
        type_,
        rows,
        name,
        int(level) if level else None,
        chunks=(rows, int(values)) if values else None,
        filters=tuple(filters) if filters else None,
        **more,
    )
    sink.ensure({"/data": spec}, {})
    return sink


def numbered(start: int, stop: int) -> np.ndarray:
    """Rows that tell their number, hard to compress."""
    rows = np.random.default_rng(1).integers(0, 1 << 40, (stop - start, 100))
    rows[:, 0] = np.arange(start, stop)
    return rows


def digest_of(rows: np.ndarray) -> str:
    return xxhash.xxh3_128(rows.tobytes()).hexdigest()


def in_file(path: Path) -> np.ndarray:
    with h5py.File(path, "r", swmr=True) as file:
        return file["data"][:]


def compressing() -> int:
    return sum(thread.name.startswith("compress") for thread in threading.enumerate())


@pytest.mark.parametrize("compression", [how for how in STORED if "lzf" not in how])
def test_a_partial_chunk_that_is_written_again_moves_or_says_the_same(
    tmp_path, compression: str
) -> None:
    sink = opened(tmp_path / "a.h5", compression, rows=1000)
    places: dict[int, bytes] = {}
    for start in range(0, 1000, 50):
        rows = np.zeros((50, 100), "i8") if start % 100 else numbered(start, start + 50)
        sink.append("/data", rows)
        sink.flush()

        info = sink._live["/data"].handle.id.get_chunk_info(0)
        now = (tmp_path / "a.h5").read_bytes()[info.byte_offset :][: info.size]
        before = places.get(info.byte_offset)
        if before is not None and before != now:
            # Written over only where it went past the filters: old rows stay what they were.
            assert info.filter_mask or compression == "none/30"
            row_bytes = 240 if compression.endswith("/30") else 800
            assert now[: start * row_bytes] == before[: start * row_bytes]
        places[info.byte_offset] = now
    sink.close()


def test_a_chunk_that_did_not_change_is_not_written_again(tmp_path) -> None:
    sink = opened(tmp_path / "a.h5", rows=1000)
    for _ in range(20):
        sink.append("/data", np.zeros((50, 100), "i8"))
        sink.flush()
    sink.close()

    assert np.array_equal(in_file(tmp_path / "a.h5"), np.zeros((1000, 100)))
    assert (tmp_path / "a.h5").stat().st_size < 60_000


def test_rows_beyond_the_last_hold_the_fill_value_in_the_file(tmp_path) -> None:
    sink = opened(tmp_path / "a.h5", fill=np.int64(-5))
    sink.append("/data", numbered(0, 3))
    sink.close()

    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["data"].resize(8, axis=0)
        assert np.all(file["data"][3:] == -5)


def test_rows_of_a_partial_chunk_are_written_once_they_are_due(tmp_path, monkeypatch) -> None:
    sink = opened(tmp_path / "a.h5")
    sink.append("/data", numbered(0, 11))
    sink.flush(whole=False)
    assert sink.visible("/data") == 8

    monkeypatch.setattr(partial, "TAIL_SECONDS", 0.0)
    sink.flush(whole=False)

    assert sink.visible("/data") == 11
    assert sink.digest("/data", RowRange(0, 11)) == digest_of(numbered(0, 11))
    sink.close()


def test_held_back_rows_cost_the_file_next_to_nothing(tmp_path) -> None:
    sizes = {}
    for name, whole in (("once", None), ("held", False), ("eager", True)):
        sink = opened(tmp_path / f"{name}.h5", rows=64)
        for start in range(0, 6400, 8):
            sink.append("/data", numbered(start, start + 8))
            if whole is not None:
                sink.flush(whole=whole)
        sink.close()
        sizes[name] = (tmp_path / f"{name}.h5").stat().st_size

    assert sizes["held"] < 1.02 * sizes["once"]
    assert sizes["eager"] > 4 * sizes["once"]


@pytest.mark.parametrize("compression", STORED)
def test_after_a_crash_flushed_rows_are_there_and_the_chunk_is_completed(
    tmp_path, compression: str
) -> None:
    rows = numbered(0, 60)
    sink = opened(tmp_path / "a.h5", compression)
    sink.append("/data", rows[:13])
    sink.flush()
    sink.append("/data", rows[13:30])
    sink.flush(whole=False)
    seen = sink.visible("/data")
    sink.append("/data", rows[30:])

    shutil.copy(tmp_path / "a.h5", tmp_path / "crashed.h5")
    sink.abandon()
    repair(tmp_path / "crashed.h5")

    after = Hdf5Sink(tmp_path / "crashed.h5")
    assert seen == 24
    assert after.rows("/data") >= seen
    after.cut({"/data": 21})
    after.append("/data", rows[21:])
    after.close()
    assert np.array_equal(in_file(tmp_path / "crashed.h5"), rows)


READER = """
import sys, h5py, numpy as np, hdf5plugin, xxhash
with h5py.File(sys.argv[1], "r", swmr=True) as file:
    dataset = file["data"]
    print("open", flush=True)
    for line in sys.stdin:
        visible = int(line.split()[0])
        for _ in range(3):
            dataset.refresh()
            rows = dataset[max(0, visible - 40):visible]
            assert len(rows) == min(40, visible), (len(rows), visible, len(dataset))
            first = visible - len(rows)
            assert np.array_equal(rows[:, 0], np.arange(first, visible)), (first, rows[:, 0])
            assert np.array_equal(rows[:, 1], rows[:, 0] ** 2 % 1009), rows[:, :2]
            assert line.split()[1] == xxhash.xxh3_128_hexdigest(np.ascontiguousarray(rows))
    dataset.refresh()
    print(len(dataset), int(dataset[:, 0].sum()), flush=True)
"""


@pytest.mark.parametrize("compression", STORED)
def test_an_attached_reader_sees_right_rows_while_chunks_grow(tmp_path, compression: str) -> None:
    sink = opened(tmp_path / "a.h5", compression, rows=32)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, tmp_path / "a.h5"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert reader.stdin and reader.stdout
    assert reader.stdout.readline() == "open\n"
    rng, total = np.random.default_rng(5), 0
    last = numbered(0, 0)

    for turn in range(200):
        count = int(rng.integers(1, 40))
        rows = numbered(total, total + count)
        rows[:, 1] = rows[:, 0] ** 2 % 1009
        if turn % 50 < 25:  # noise, which goes past some filters
            rows[:, 2:] = rng.integers(-(1 << 63), 1 << 63, (count, 98), endpoint=False)
        sink.append("/data", rows)
        total += count
        sink.flush(whole=bool(turn % 3))
        seen, last = sink.visible("/data"), np.concatenate([last, rows])[-80:]
        latest = last[: len(last) - (total - seen)][-40:]
        reader.stdin.write(f"{seen} {digest_of(np.ascontiguousarray(latest))}\n")
        reader.stdin.flush()
        if reader.poll() is not None:
            break
    sink.flush()
    out, errors = reader.communicate(timeout=60)
    sink.close()

    assert reader.returncode == 0, errors
    assert out.split() == [str(total), str(total * (total - 1) // 2)]


def test_a_full_disk_is_said_and_no_thread_stays(tmp_path) -> None:
    sink = opened(tmp_path / "a.h5", rows=100)
    sink.append("/data", numbered(0, 100))
    sink.flush()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(BusyWorld):
            for start in range(0, 10_000, 100):
                sink.append("/data", numbered(start, start + 100))
            sink.flush()
        assert compressing()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    sink.abandon()

    assert compressing() == 0
    again = Hdf5Sink(tmp_path / "a.h5")
    assert np.array_equal(again._live["/data"].handle[:100], numbered(0, 100))
    again.close()


@pytest.mark.parametrize("error", [MemoryError("no room"), BrokenInvariant("a filter failed")])
def test_a_compressor_that_fails_fails_the_writer(tmp_path, monkeypatch, error) -> None:
    def failing(chunk: np.ndarray) -> None:
        raise error

    monkeypatch.setattr(hdf5_compressed, "compressor", lambda made: failing)
    sink = opened(tmp_path / "a.h5")

    with pytest.raises(type(error), match=str(error)):
        sink.append("/data", numbered(0, 8))
        sink.flush()

    sink.abandon()
    assert compressing() == 0


@pytest.mark.skipif(not shutil.which("h5dump"), reason="no h5dump")
@pytest.mark.parametrize("compression", ["gzip", "gzip:2", "gzip:3", "gzip:0", "gzip:9"])
def test_other_tools_read_gzip(tmp_path, compression: str) -> None:
    sink = opened(tmp_path / "a.h5", compression)
    rows = numbered(0, 21)
    sink.append("/data", rows)
    sink.close()

    done = subprocess.run(
        ["h5dump", "-d", "/data", "-b", "LE", "-o", tmp_path / "out", tmp_path / "a.h5"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.fromfile(tmp_path / "out", "<i8").reshape(21, 100), rows)


def test_a_digest_covers_visible_rows_while_others_are_under_way(tmp_path) -> None:
    sink = opened(tmp_path / "a.h5")
    rows = numbered(0, 100)
    sink.append("/data", rows[:20])
    sink.flush()
    before = sink.digest("/data", RowRange(0, 20))

    sink.append("/data", rows[20:])

    assert sink.digest("/data", RowRange(0, 20)) == before
    sink.close()
