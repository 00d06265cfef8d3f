"""Readers find records, rows and what is wrong with them, in outputs that nobody writes."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ingestd.errors import UsageError
from ingestd.tail import (
    CannotOpen,
    Missing,
    NotAnOutput,
    NotCommitted,
    Output,
    live,
    open_tail,
    open_view,
    opening,
    trace,
    verify,
)
from ingestd.tail.text import json_row, line
from tests.outputs import OLD_RECORD, make_output


@given(files=st.lists(st.integers(0, 3), min_size=1, max_size=300))
def test_find_gives_the_file_of_each_row_also_among_files_without_rows(
    tmp_path_factory: pytest.TempPathFactory, files: list[int]
) -> None:
    path = make_output(tmp_path_factory.mktemp("find") / "out.h5", files)
    expected = [b"%d.npy" % n for n, count in enumerate(files) for _ in range(count)]

    with Output(path) as output:
        found = [bytes(output.find("/data", row)["name"]) for row in range(len(expected))]
        with pytest.raises(NotCommitted, match=f"{len(expected)} is not committed"):
            output.find("/data", len(expected))

    assert found == expected


def test_find_reads_a_few_records_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_output(tmp_path / "out.h5", [1] * 100_000)
    reads = []
    getitem = h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda self, key: reads.append(key) or getitem(self, key)
    )

    with Output(path) as output:
        record = output.find("/data", 31_415)

    assert record["first_row"] == 31_415
    assert len(reads) <= 25


def test_a_record_that_was_not_written_yet_does_not_count(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3, 2])
    with h5py.File(path, "a") as file:
        file["/ingestd/data/files"].resize(3, axis=0)

    with Output(path) as output:
        end, records = output.committed("/data"), output.records("/data")

    assert end == 5
    assert len(records) == 2


def test_outputs_begun_before_captures_were_kept_are_read_and_other_layouts_refused(
    tmp_path: Path,
) -> None:
    old = make_output(tmp_path / "old.h5", [3], record=OLD_RECORD)
    other = make_output(tmp_path / "other.h5", [3])
    with h5py.File(other, "a") as file:
        records = file["ingestd/data/files"][:]
        del file["ingestd/data/files"]
        file["ingestd/data/files"] = records[["first_row", "rows", "committed_ns"]]

    origin = trace(old, None, 1)

    assert (origin.file, origin.captures) == ("0.npy", {})
    assert verify(old).ok
    with pytest.raises(NotAnOutput, match="another layout"):
        verify(other)


def test_datasets_are_found_in_all_groups_and_the_only_one_need_not_be_named(
    tmp_path: Path,
) -> None:
    one = make_output(tmp_path / "one.h5", [1], "/entry/detector/data")
    two = make_output(make_output(tmp_path / "two.h5", [1]), [1], "/entry/files")

    with Output(one) as first, Output(two) as second:
        only, both = first.resolve(None), second.datasets
        with pytest.raises(UsageError, match="It has: /data, /entry/files"):
            second.resolve(None)
        without_slash = second.resolve("entry/files")

    assert only == "/entry/detector/data"
    assert both == ("/data", "/entry/files")
    assert without_slash == "/entry/files"


def test_files_that_are_no_outputs_are_told_apart(tmp_path: Path) -> None:
    plain, junk = tmp_path / "plain.h5", tmp_path / "junk.h5"
    with h5py.File(plain, "w") as file:
        file["data"] = [1, 2]
    junk.write_bytes(b"no HDF5")
    crashed = tmp_path / "crashed.h5"
    with h5py.File(crashed, "w", libver=("v110", "v114")) as file:
        file.flush()
        half = crashed.read_bytes()
    crashed.write_bytes(half)

    with pytest.raises(NotAnOutput, match="no group /ingestd"):
        trace(plain, None, 0)
    with pytest.raises(NotAnOutput, match="not an HDF5 file"):
        verify(junk)
    with pytest.raises(NotAnOutput, match="not an HDF5 file"):
        verify(Path("/dev/null"))
    with pytest.raises(Missing, match="no such file"):
        verify(tmp_path / "none.h5")
    with pytest.raises(CannotOpen, match="ingestd repair"):
        Output(crashed, patience_seconds=0)


def test_opening_is_tried_again_while_a_writer_opens_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_output(tmp_path / "out.h5", [3])
    errors = [OSError("file is not already open for SWMR writing")] * 2
    real = h5py.File

    def file(*given: Any, **named: Any) -> h5py.File:
        if errors:
            raise errors.pop()
        return real(*given, **named)

    monkeypatch.setattr(opening.h5py, "File", file)

    with Output(path) as output:
        end = output.committed("/data")

    assert end == 3
    assert not errors


def test_outputs_on_one_file_share_its_handles_so_that_a_refresh_keeps_rows_right(
    tmp_path: Path,
) -> None:
    path = make_output(tmp_path / "out.h5", [50])

    with Output(path) as one:
        assert list(one.rows("/data", 0, 50)[:, 0]) == list(range(50))
        with Output(path) as two:
            two.rows("/data", 0, 50)
            one.refresh()
            two.refresh()
            rows = two.rows("/data", 0, 50)
        again = one.rows("/data", 0, 50)

    assert list(rows[:, 0]) == list(again[:, 0]) == list(range(50))


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
@pytest.mark.parametrize("swmr", [True, False])
def test_plain_h5py_and_readers_have_a_file_open_side_by_side_in_one_process(
    tmp_path: Path, locking: Any, swmr: bool
) -> None:
    path = make_output(tmp_path / "out.h5", [50])
    numbers = list(range(50))

    with h5py.File(path, "r", swmr=swmr, locking=locking) as file:
        before = file["data"]
        assert list(before[:, 0]) == numbers
        with open_view(path) as view, open_tail(path, timeout=0) as tail:
            tailed = [row for block in tail for row in block.rows[:, 0]]
            viewed = list(view["/data"][:, 0])
    with Output(path) as output, h5py.File(path, "r", swmr=swmr, locking=locking) as file:
        ours, theirs = output.rows("/data", 0, 50), file["data"][:]
        output.refresh()
        file["data"].refresh()
        again = output.rows("/data", 0, 50)

    assert tailed == viewed == numbers
    assert list(ours[:, 0]) == list(theirs[:, 0]) == list(again[:, 0]) == numbers


def test_refreshes_beside_plain_h5py_on_the_same_dataset_keep_rows_right(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [50])
    numbers = list(range(50))

    with Output(path) as output, h5py.File(path, "r", swmr=True) as file:
        theirs = file["data"]
        seen = []
        for _ in range(3):
            seen += [output.rows("/data", 0, 50)[:, 0].tolist(), theirs[:, 0].tolist()]
            output.refresh()
            theirs.refresh()

    # Of two handles of plain h5py, 46 of the 50 rows are wrong after this.
    assert seen == [numbers] * 6


def test_a_view_that_nobody_holds_any_more_lets_go_of_the_file(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3])
    view = open_view(path)
    assert view["/data"][0, 0] == 0
    assert str(path) in _open_files()

    del view
    gc.collect()

    assert str(path) not in _open_files()


def _open_files() -> list[str]:
    return [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_time_that_runs_out_does_not_hide_that_the_file_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    path = make_output(tmp_path / "out.h5", [3])
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(opening.h5py, "File", _refusing)

    with open_tail(path, timeout=timeout) as tail, pytest.raises(CannotOpen, match="no memory"):
        next(tail)

    async def ask() -> None:
        with open_tail(path, timeout=timeout) as tail:
            await anext(tail)

    with pytest.raises(CannotOpen, match="no memory"):
        asyncio.run(ask())


def test_a_file_that_opens_a_little_later_is_read_though_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_output(tmp_path / "out.h5", [3])
    real, tries = h5py.File, []

    def file(*given: Any, **named: Any) -> h5py.File:
        tries.append(given)
        return (real if len(tries) > 3 else _refusing)(*given, **named)

    monkeypatch.setattr(opening.h5py, "File", file)

    with open_tail(path, timeout=0) as tail:
        (block,) = tail

    assert block.stop == 3


def _refusing(*_: Any, **__: Any) -> h5py.File:
    raise OSError("no memory")


@given(
    files=st.lists(st.integers(0, 9), max_size=30),
    start=st.integers(0, 40),
    max_rows=st.integers(1, 100),
    whole_files=st.booleans(),
)
def test_blocks_are_bounded_and_together_all_rows(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[int],
    start: int,
    max_rows: int,
    whole_files: bool,
) -> None:
    path = make_output(tmp_path_factory.mktemp("blocks") / "out.h5", files)
    ends = {0, *np.cumsum(files, dtype=int).tolist()}

    with open_tail(
        path, "/data", start, whole_files=whole_files, max_rows=max_rows, timeout=0
    ) as tail:
        blocks = list(tail)

    assert [row for block in blocks for row in block.rows[:, 0]] == list(range(start, sum(files)))
    for block in blocks:
        assert list(block.rows[:, 0]) == list(range(block.start, block.stop))
        assert 1 <= len(block) <= max_rows
        assert block.files[0].rows.start <= block.start < block.stop <= block.files[-1].rows.stop
        if whole_files and max(files) <= max_rows:
            assert block.stop in ends


@given(
    files=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    how=st.lists(st.tuples(st.booleans(), st.integers(1, 12)), min_size=1, max_size=5),
)
def test_a_position_goes_on_where_a_reader_was_whatever_its_blocks(
    tmp_path_factory: pytest.TempPathFactory, files: list[int], how: list[tuple[bool, int]]
) -> None:
    path = make_output(tmp_path_factory.mktemp("position") / "out.h5", files)
    position: Any = 0
    rows: list[int] = []

    for whole_files, max_rows in itertools.cycle(how):
        with open_tail(
            path, None, position, whole_files=whole_files, max_rows=max_rows, timeout=0
        ) as tail:
            block = next(tail, None)
            position = pickle.loads(pickle.dumps(tail.position))
        if block is None:
            break
        rows += block.rows[:, 0].tolist()

    assert rows == list(range(sum(files)))


def test_a_tail_begins_at_a_row_from_the_end_or_for_the_last_rows(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3, 4])

    def rows(start: Any) -> list[int]:
        with open_tail(path, "/data", start, timeout=0) as tail:
            return [int(row) for block in tail for row in block.rows[:, 0]]

    assert rows(0) == [0, 1, 2, 3, 4, 5, 6]
    assert rows(5) == [5, 6]
    assert rows(-2) == [5, 6]
    assert rows(-99) == [0, 1, 2, 3, 4, 5, 6]
    assert rows(99) == rows("end") == rows(7) == []


def test_trace_tells_the_file_and_the_row_in_it(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3, 4])

    origin = trace(path, None, 5)

    assert (origin.file, origin.source, origin.row_in_file) == ("1.npy", "frames", 2)
    assert (origin.rows.start, origin.rows.stop) == (3, 7)


def test_verify_agrees_with_what_was_written(tmp_path: Path) -> None:
    path = make_output(make_output(tmp_path / "out.h5", [3, 0, 4]), [9], "/more")
    seen: list[tuple[int, int]] = []

    report = verify(path, progress=lambda done, total: seen.append((done, total)), slab_bytes=16)

    assert report.ok
    assert report.rows == {"/data": 7, "/more": 9}
    assert report.files == {"/data": 3, "/more": 1}
    assert seen[-1] == (16, 16)


def test_verify_names_the_file_whose_row_was_changed(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3, 4, 5])
    with h5py.File(path, "a") as file:
        file["data"][5, 1] = -1

    report = verify(path)

    assert [problem.file for problem in report.problems] == ["1.npy"]
    assert str(report.problems[0]).startswith("/data: rows 3 to 6 of 1.npy (source frames): digest")


def test_verify_reports_missing_rows_and_a_gap_between_records(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3, 4, 5])
    with h5py.File(path, "a") as file:
        file["data"].resize(8, axis=0)
        record = file["/ingestd/data/files"][1]
        record["rows"] = 3
        file["/ingestd/data/files"][1] = record

    report = verify(path)

    told = [(problem.file, problem.what.split(" ")[0]) for problem in report.problems]
    assert told == [("1.npy", "digest"), ("2.npy", "begins"), ("2.npy", "cannot")]
    assert report.problem_count == 3


def test_verify_blames_only_files_with_rows_in_a_broken_chunk(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [4, 2, 6], compression="gzip")
    with h5py.File(path, "a") as file:
        file["data"].id.write_direct_chunk((4, 0), b"no deflate stream")

    report = verify(path)

    assert [problem.file for problem in report.problems] == ["1.npy", "2.npy"]
    assert "cannot be read back" in report.problems[0].what


@given(
    npst.arrays(
        st.one_of(
            npst.scalar_dtypes(),
            npst.byte_string_dtypes(max_len=5),
            npst.nested_dtypes(npst.scalar_dtypes() | npst.byte_string_dtypes(max_len=3)),
        ),
        npst.array_shapes(min_dims=0, max_dims=3, max_side=3),
    ),
    st.integers(1, 200),
)
def test_any_row_is_printed_as_strict_json_and_on_one_line(values: np.ndarray, width: int) -> None:
    text, short = json_row(7, values), line(7, values, width)

    parsed = json.loads(text, parse_constant=pytest.fail)
    assert parsed["row"] == 7
    assert "\n" not in text
    assert short.isprintable()
    assert len(short) <= max(width, 3)


def test_json_values_are_exact() -> None:
    nan = np.array([1.5, np.nan, -np.inf])
    mixed = np.array((1, b"a\xff", 1 + 2j), [("n", "u8"), ("text", "S4"), ("z", "c16")])

    assert json_row(0, nan) == '{"row": 0, "values": [1.5, "NaN", "-Infinity"]}'
    assert json.loads(json_row(1, mixed))["values"] == {"n": 1, "text": "a\\xff", "z": [1.0, 2.0]}
    assert json.loads(json_row(2, np.uint64(2**64 - 1)))["values"] == 2**64 - 1
    assert json.loads(json_row(3, np.array([True])))["values"] == [True]


def test_frames_are_summed_up_and_long_rows_are_cut() -> None:
    frame = np.array([[1.0, np.nan], [3.0, 5.0]], "f4")

    summary, row = line(3, frame, 100), line(4, np.arange(1000), 30)

    assert summary == "        3  (2, 2) float32  min 1  mean 3  max 5  not finite 1"
    assert row == "        4  0 1 2 3 4 5 6 7 8..."[:27] + "..."
    assert len(row) == 30


def test_a_tail_starts_at_a_row_the_start_the_end_and_nowhere_else(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [3, 2])

    first = {
        start: [block.start for block in open_tail(path, None, start, timeout=0)]
        for start in ("start", "end", np.int64(3), -1)
    }

    assert first == {"start": [0], "end": [], 3: [3], -1: [4]}
    for wrong in ("begin", "Start", "", None, 1.5, [0]):
        with pytest.raises(ValueError, match=r'must be a row, .* "start", "end", or the position'):
            open_tail(path, None, wrong)


def test_one_row_is_not_called_rows(tmp_path: Path) -> None:
    path = make_output(tmp_path / "out.h5", [1])

    with pytest.raises(NotCommitted, match="It has 1 row, 0 to 0"):
        trace(path, None, 1)
    with pytest.raises(IndexError, match=r"of 1 committed row$"):
        open_view(path)["/data"][1]
