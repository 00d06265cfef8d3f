"""Whatever a drop file holds, decoding it ends in one word, and gives back every byte it took."""

from __future__ import annotations

import errno
import io
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from flows import drop_file, make_source
from helpers import until

from ingestd.config import Source
from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, FormatOptions
from ingestd.isolated import parent
from ingestd.model import (
    Block,
    Decoded,
    DropFile,
    Ending,
    Failed,
    Message,
    NotYet,
    Opened,
    RowType,
    Task,
)
from ingestd.pipeline import decode as decode_module
from ingestd.pipeline import plan as plan_module
from ingestd.pipeline.bundle import Likes
from ingestd.pipeline.decode import SLAB_BYTES_MAX, Decoder
from ingestd.pipeline.plan import cast, plan_rows
from ingestd.pipeline.reorder import Closed, Reorder

MEMORY = 8 << 20


@pytest.fixture(autouse=True)
def no_grace(monkeypatch) -> None:
    """A failure is believed at once."""
    monkeypatch.setattr(decode_module, "GRACE_SECONDS", 0.0)


def decoded(source: Source, name: str, file: DropFile | None = None) -> list[Message]:
    """All that is said of a file; every byte that was reserved for it is released."""
    reorder = Reorder(MEMORY)
    found: list[Message] = []

    def take() -> None:
        while not (found and isinstance(found[-1], Ending)):
            taken = reorder.take(10)
            assert taken is not None
            if isinstance(taken[1], Block):
                reorder.written(0, taken[1].rows.nbytes)
            found.append(taken[1])

    taker = threading.Thread(target=take)
    taker.start()
    Decoder({"s": source}, reorder, MEMORY, Likes(), {}).decode(
        0, Task((file or drop_file(source, name),))
    )
    taker.join()
    assert reorder._in_flight == 0
    assert not reorder._held
    assert not reorder._said
    return found


def rows_of(messages: list[Message], dataset: str = "/data") -> np.ndarray:
    return np.concatenate(
        [m.rows for m in messages if isinstance(m, Block) and m.dataset == dataset]
    )


def saved(source: Source, array: np.ndarray, name: str = "a.npy") -> str:
    np.save(source.drop / name, array)
    return name


def test_a_small_file_is_one_block(tmp_path) -> None:
    source = make_source(tmp_path)
    array = np.arange(12.0).reshape(4, 3)

    messages = decoded(source, saved(source, array))

    assert [type(m) for m in messages] == [Opened, Block, Decoded]
    assert messages[0].types == {"/data": RowType(np.dtype("f8"), (3,))}
    assert np.array_equal(rows_of(messages), array)


def test_a_file_larger_than_memory_is_many_blocks_within_the_bound(tmp_path) -> None:
    source = make_source(tmp_path)
    array = np.arange(3 << 20).reshape(-1, 4)
    assert array.nbytes > 2 * MEMORY

    messages = decoded(source, saved(source, array))

    blocks = [m.rows.nbytes for m in messages if isinstance(m, Block)]
    assert len(blocks) > 10
    assert max(blocks) <= MEMORY // 2
    assert np.array_equal(rows_of(messages), array)


def test_the_same_rows_have_the_same_digest_however_they_are_cut(tmp_path, monkeypatch) -> None:
    source = make_source(tmp_path)
    name = saved(source, np.arange(100_000))
    whole = decoded(source, name)

    monkeypatch.setattr(decode_module, "SLAB_BYTES_MAX", 1000)
    cut = decoded(source, name)

    assert whole[-1] == cut[-1]
    assert len(cut) > len(whole)


@pytest.mark.skipif(shutil.which("fincore") is None, reason="apt install util-linux")
@pytest.mark.parametrize(
    ("options", "age_seconds", "kept"),
    [({}, 3600, False), ({}, 1, True), ({"after": "keep"}, 3600, True)],
    ids=["moved", "young", "kept"],
)
def test_a_backlog_pushes_nothing_out_of_memory(tmp_path, options, age_seconds, kept) -> None:
    source = make_source(tmp_path, **options)
    name = saved(source, np.arange(3 << 20))
    path = source.drop / name
    with path.open() as file:
        os.fsync(file)
    if _file_system(path) == "tmpfs":
        pytest.skip("the temporary directory is in memory itself")
    written = time.time() - age_seconds
    os.utime(path, (written, written))
    assert _resident_bytes(path) >= path.stat().st_size

    decoded(source, name)

    resident = _resident_bytes(path)
    assert resident >= path.stat().st_size if kept else resident <= SLAB_BYTES_MAX


def test_where_files_go_may_be_out_of_sight(tmp_path, monkeypatch) -> None:
    def fails(path: Path) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(decode_module, "device", fails)
    source = make_source(tmp_path)
    name = saved(source, np.arange(3 << 20))
    os.utime(source.drop / name, (0, 0))

    assert isinstance(decoded(source, name)[-1], Decoded)


def _resident_bytes(path: Path) -> int:
    """How much of it the kernel keeps in memory."""
    said = subprocess.check_output(["fincore", "--bytes", "--noheadings", "--output", "RES", path])
    return int(said)


def _file_system(path: Path) -> str:
    return subprocess.check_output(["stat", "-f", "-c", "%T", path], text=True).strip()


def test_a_file_without_rows_is_no_failure(tmp_path) -> None:
    source = make_source(tmp_path)

    messages = decoded(source, saved(source, np.zeros((0, 3))))

    assert isinstance(messages[-1], Decoded)
    assert sum(len(m.rows) for m in messages if isinstance(m, Block)) == 0


def test_stack_makes_the_whole_array_one_row(tmp_path) -> None:
    source = make_source(tmp_path, datasets={"/data": {"stack": True, "dtype": "f4"}})
    array = np.arange(600_000.0).reshape(-1, 2)

    messages = decoded(source, saved(source, array))

    assert rows_of(messages).dtype == np.float32
    assert np.array_equal(rows_of(messages), array[None])


def test_a_single_value_can_be_stacked(tmp_path) -> None:
    source = make_source(tmp_path, datasets={"/data": {"stack": True}})

    assert rows_of(decoded(source, saved(source, np.array(3.5)))).tolist() == [3.5]


def test_a_row_of_more_than_half_the_memory_is_refused_with_what_to_set(tmp_path) -> None:
    source = make_source(tmp_path)

    messages = decoded(source, saved(source, np.zeros((2, MEMORY // 2 + 1), "u1")))

    assert len(messages) == 1
    assert "memory: 9MiB" in messages[0].reason.remedy


def test_rows_of_half_the_memory_in_many_files_at_once_are_no_deadlock(tmp_path) -> None:
    source = make_source(tmp_path)
    tickets = range(4)
    for ticket in tickets:
        saved(source, np.full((3, MEMORY // 2), ticket, "u1"), f"{ticket}.npy")
    reorder = Reorder(MEMORY)
    todo = list(tickets)[::-1]
    endings: list[int] = []

    def work() -> None:
        decoder = Decoder({"s": source}, reorder, MEMORY, Likes(), {})
        while todo:
            ticket = todo.pop()
            decoder.decode(ticket, Task((drop_file(source, f"{ticket}.npy"),)))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()

    def take() -> bool:
        taken = reorder.take(0.05)
        if taken and isinstance(taken[1], Block):
            reorder.written(taken[0], taken[1].rows.nbytes)
        elif taken and isinstance(taken[1], Ending):
            endings.append(taken[0])
        return len(endings) == len(tickets)

    until(take, "all files are through", seconds=20)
    assert endings == list(tickets)
    assert reorder._in_flight == 0


def fails(kind: str, path: Path) -> str:
    """Make a bad file at ``path``; what its reason says."""
    if kind == "truncated":
        np.save(path, np.zeros(1000))
        os.truncate(path, 2000)
        return "bytes"
    if kind == "directory":
        path.mkdir()
        return "directory"
    if kind == "fifo":
        os.mkfifo(path)
        return "pipe"
    if kind == "link":
        np.save(path.with_name("z.npy"), np.zeros(3))
        path.symlink_to(path.with_name("z.npy"))
        return "symbolic link"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        return "socket"
    arrays = {
        "objects": np.array([{}, None], dtype=object),
        "text": np.array(["abc"]),
        "dates": np.array([5], "m8"),  # of no unit
        "a single value": np.array(1.0),
        "(0,)": np.zeros((4, 0)),
    }
    np.save(path, arrays[kind], allow_pickle=True)
    return {"text": "unicode", "dates": "timedelta64", "objects": "object"}.get(kind, kind)


@pytest.mark.parametrize(
    "kind",
    [
        *("truncated", "directory", "fifo", "link", "socket"),
        *("objects", "text", "dates", "a single value", "(0,)"),
    ],
)
def test_a_bad_file_fails_with_a_reason_and_takes_no_memory(tmp_path, kind: str) -> None:
    source = make_source(tmp_path)
    said = fails(kind, source.drop / "a.npy")

    messages = decoded(source, "a.npy")

    assert isinstance(messages[-1], Failed)
    assert said in str(messages[-1].reason)
    assert messages[-1].reason.remedy


def test_a_young_failure_is_looked_at_again_before_it_is_believed(tmp_path, monkeypatch) -> None:
    source = make_source(tmp_path)
    monkeypatch.setattr(decode_module, "GRACE_SECONDS", 1000.0)
    (source.drop / "a.npy").write_bytes(b"")
    file = drop_file(source, "a.npy")

    (young,) = decoded(source, "a.npy", file)
    monkeypatch.setattr(decode_module, "age_seconds", lambda stat: 1001.0)
    (old,) = decoded(source, "a.npy", file)

    assert isinstance(young, NotYet)
    assert young.soon
    assert 990 < young.retry_seconds <= 1000
    assert isinstance(old, Failed)


def test_a_file_that_somebody_writes_is_not_read_yet(tmp_path) -> None:
    source = make_source(tmp_path)
    name = saved(source, np.zeros(3))

    with (source.drop / name).open("r+b"):
        (message,) = decoded(source, name)

    assert isinstance(message, NotYet)
    assert not message.soon


def test_a_file_that_changed_since_it_was_seen_is_looked_at_again(tmp_path) -> None:
    source = make_source(tmp_path)
    file = drop_file(source, saved(source, np.zeros(3)))
    saved(source, np.zeros(30))

    (message,) = decoded(source, "a.npy", file)

    assert isinstance(message, NotYet)
    assert message.soon


def test_a_file_that_is_gone_is_no_failure(tmp_path) -> None:
    source = make_source(tmp_path)
    file = drop_file(source, saved(source, np.zeros(3)))
    (source.drop / "a.npy").unlink()

    assert isinstance(decoded(source, "a.npy", file)[-1], NotYet)


@pytest.mark.parametrize(("number", "ending"), [(13, Failed), (5, NotYet), (116, NotYet)])
def test_what_the_system_says_tells_bad_files_from_a_busy_world(
    tmp_path, monkeypatch, number: int, ending: type
) -> None:
    source = make_source(tmp_path)
    file = drop_file(source, saved(source, np.zeros(3)))

    def refuse(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)

    assert isinstance(decoded(source, "a.npy", file)[-1], ending)


def test_a_directory_out_of_reach_is_a_busy_world_and_no_bad_file(tmp_path, monkeypatch) -> None:
    source = make_source(tmp_path)
    file = drop_file(source, saved(source, np.zeros(3)))

    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "lstat", refuse)

    (message,) = decoded(source, "a.npy", file)
    assert isinstance(message, NotYet)
    assert "Permission denied" in message.why


class Faulty:
    """A format that gives ``good`` slabs of one megabyte, then does what it is told to."""

    name, suffixes, Options, plain = "faulty", (".npy",), FormatOptions, None

    def __init__(self, path: Path, good: int, fault: BaseException | str) -> None:
        self._path, self._good, self._fault = path, good, fault
        self.members = {"data": ArrayInfo(np.dtype("i4"), (None,))}

    def open(self, file: io.RawIOBase, options: FormatOptions) -> Faulty:
        return self

    def slabs(self, member: str, slab_bytes: int, dtype: object = None) -> Iterator[np.ndarray]:
        for _ in range(self._good):
            yield np.zeros(min(slab_bytes, 1 << 20) // 4, "i4")
        if isinstance(self._fault, BaseException):
            raise self._fault
        if self._fault == "overflow":
            yield np.full(10, 2**31 - 1, "i4")
        elif self._fault == "empty":
            yield np.zeros(0, "i4")
        else:
            self._path.write_bytes(b"other content of another size")


@pytest.mark.parametrize("good", [0, 1, 2, 20])
@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        (BadFile("a", "b", "c"), Failed),
        (OSError(5, "Input/output error"), NotYet),
        (ZeroDivisionError("a bug"), Failed),
        (MemoryError(), NotYet),
        ("overflow", Failed),
        ("change", NotYet),
        ("empty", Decoded),
    ],
)
def test_a_failure_at_any_point_gives_back_all_that_was_reserved(
    tmp_path, monkeypatch, good: int, fault: BaseException | str, ending: type
) -> None:
    source = make_source(tmp_path, datasets={"/data": {"dtype": "i2"}})
    name = saved(source, np.zeros(3))
    faulty = Faulty(source.drop / name, good, fault)
    monkeypatch.setattr(plan_module, "choose", lambda *args: faulty)

    messages = decoded(source, name)

    assert isinstance(messages[-1], ending)


def test_a_failure_while_a_row_is_stacked_gives_back_its_bytes(tmp_path) -> None:
    source = make_source(tmp_path, datasets={"/data": {"stack": True, "dtype": "i1"}})

    messages = decoded(source, saved(source, np.full(1000, 300)))

    assert isinstance(messages[-1], Failed)


def test_when_the_flow_stops_a_decoder_that_waits_ends(tmp_path) -> None:
    source = make_source(tmp_path)
    file = drop_file(source, saved(source, np.zeros(4 << 20, "u1")))
    reorder = Reorder(MEMORY)
    result: list[BaseException] = []

    def work() -> None:
        try:
            Decoder({"s": source}, reorder, MEMORY, Likes(), {}).decode(1, Task((file,)))
        except Closed as closed:
            result.append(closed)

    reorder.reserve(2, MEMORY // 2)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    reorder.close()

    until(lambda: not thread.is_alive(), "it ended")
    assert result


def a_plan(dataset: Mapping[str, object], members: dict[str, ArrayInfo], tmp_path: Path):
    return plan_rows(make_source(tmp_path, datasets={"/entry/frames": dataset}).datasets, members)


def info(dtype: str = "f8", *shape: int | None) -> ArrayInfo:
    return ArrayInfo(np.dtype(dtype), shape)


@pytest.mark.parametrize(
    ("dataset", "members", "expected"),
    [
        ({}, ["frames", "data"], "frames"),
        ({}, ["data", "other"], "data"),
        ({}, ["only"], "only"),
        ({"member": "other"}, ["frames", "other"], "other"),
    ],
)
def test_a_dataset_takes_the_member_of_its_name_or_the_only_one(
    tmp_path, dataset, members, expected
) -> None:
    plan = a_plan(dataset, {name: info("f8", 3, 2) for name in members}, tmp_path)

    assert plan == {"/entry/frames": (expected, RowType(np.dtype("f8"), (2,)))}


@pytest.mark.parametrize(
    ("dataset", "members"), [({}, ["a", "b"]), ({"member": "x"}, ["frames"]), ({}, [])]
)
def test_a_member_that_is_missing_or_doubtful_is_refused(tmp_path, dataset, members) -> None:
    with pytest.raises(BadFile, match=r"a member '.*' for /entry/frames"):
        a_plan(dataset, {name: info("f8", 3) for name in members}, tmp_path)


@pytest.mark.parametrize(
    ("dataset", "held"),
    [
        ({"dtype": "i4"}, info("f8", 3)),
        ({"dtype": "u4"}, info("i4", 3)),
        ({"row_shape": [3]}, info("f8", 5, 2)),
        ({"stack": True}, info("f8", None, 2)),
        ({}, info("f8")),
        ({}, info("f8", 3, 0)),
        ({}, info("O", 3)),
    ],
)
def test_what_the_config_or_hdf5_cannot_take_is_refused(tmp_path, dataset, held) -> None:
    with pytest.raises(BadFile):
        a_plan(dataset, {"data": held}, tmp_path)


@pytest.mark.parametrize(
    ("values", "old", "new"),
    [
        ([300], "i8", "i1"),
        ([-129], "i2", "i1"),
        ([2**63], "u8", "i8"),
        ([b"hello"], "S5", "S3"),
        ([1234], "i4", "S3"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, old: str, new: str) -> None:
    with pytest.raises(BadFile):
        cast(np.array(values, old), np.dtype(new))


@pytest.mark.parametrize(
    ("values", "old", "new"),
    [
        ([127, -128], "i8", "i1"),
        ([0.1], "f8", "f4"),
        ([1], ">u2", "<u2"),
        ([b"abc"], "S5", "S3"),
        ([True], "?", "f4"),
        ([], "i8", "i1"),
    ],
)
def test_values_that_fit_are_cast_and_floats_rounded(values, old: str, new: str) -> None:
    found = cast(np.array(values, old), np.dtype(new))

    assert found.dtype == np.dtype(new)
    assert np.array_equal(found, np.array(values, new))


def test_a_wider_dtype_keeps_slabs_within_the_bound(tmp_path) -> None:
    source = make_source(tmp_path, datasets={"/data": {"dtype": "S5"}})

    messages = decoded(source, saved(source, np.full(400_000, b"ab")))

    assert isinstance(messages[-1], Decoded)
    assert len(rows_of(messages)) == 400_000


def test_a_bad_file_that_waits_to_be_written_keeps_no_child_busy(tmp_path) -> None:
    import h5py

    source = make_source(tmp_path)
    for name in ("a.h5", "b.h5"):
        with h5py.File(source.drop / name, "w") as file:
            file["x"], file["y"] = [1.0], [2.0]  # neither is for /data
    parent.close_all()

    endings = [decoded(source, name)[-1] for name in ("a.h5", "b.h5")]

    assert all(isinstance(ending, Failed) for ending in endings)
    assert len(parent._idle) == 1
