"""The reading child may crash, hang or lie: it costs one file, and the next one is read."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from contract.extra_cases import FRAMES, mat, nexus

from ingestd.errors import BadFile
from ingestd.formats.hdf5 import Hdf5, Hdf5Options
from ingestd.formats.inchild import ChildFile
from ingestd.formats.mat import Mat, MatOptions
from ingestd.isolated import parent, wire
from ingestd.pipeline.reading import DropReader

ROWS = np.arange(4000.0).reshape(500, 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = ROWS
    return path


def opened(path: Path) -> ChildFile:
    with path.open("rb", buffering=0) as file:
        return Hdf5().open(file, Hdf5Options())


def rows(file: ChildFile) -> np.ndarray:
    return np.concatenate(list(file.slabs("/x", 1000)))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_while_rows_are_read_is_a_bad_file_and_the_next_is_read(
    path: Path, number: signal.Signals
) -> None:
    file = opened(path)
    slabs = file.slabs("/x", 1000)
    next(slabs)

    os.kill(file.child.pid, number)

    with pytest.raises(BadFile, match=rf"crashed its reader \({number.name}\)"):
        list(slabs)
    with pytest.raises(BadFile, match="crashed"):
        list(file.slabs("/x", 1000))
    assert np.array_equal(rows(opened(path)), ROWS)


def test_work_without_end_is_a_bad_file(path: Path) -> None:
    file = opened(path)

    os.kill(file.child.pid, signal.SIGXCPU)  # as the kernel does, after CPU_SECONDS

    with pytest.raises(BadFile, match="without end"):
        rows(file)


def test_a_file_that_sends_hdf5_in_circles_is_a_bad_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent.close_all()
    monkeypatch.setattr(parent, "CPU_SECONDS", 1)
    data = bytearray(nexus({"/entry/detector/data": FRAMES}))
    data[1977] = 74  # met by chance: HDF5 2.0 never comes back

    with pytest.raises(BadFile):
        Hdf5().open(io.BytesIO(data), Hdf5Options())

    parent.close_all()


def test_a_file_that_crashes_scipy_is_a_bad_file() -> None:
    pytest.importorskip("scipy", reason="format 'mat' reads version 5 to 7 with SciPy")
    data = bytearray(mat()({"f": FRAMES}))
    data[184] = 77  # a type of number that there is not: SciPy 1.17 reads past the end of a table

    with pytest.raises(BadFile):
        list(Mat().open(io.BytesIO(data), MatOptions()).slabs("f", 1000))


def test_a_child_that_says_nothing_is_the_disks_fault(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent.close_all()
    monkeypatch.setattr(parent, "WAIT_SECONDS", 2.0)
    file = opened(path)

    os.kill(file.child.pid, signal.SIGSTOP)

    with pytest.raises(TimeoutError):
        rows(file)
    assert not file.child.usable


def test_a_child_is_kept_for_the_next_file(path: Path) -> None:
    parent.close_all()
    first = opened(path)
    pid = first.child.pid
    other = opened(path)
    assert other.child.pid != pid

    del first
    file = opened(path)

    assert file.child.pid == pid
    assert np.array_equal(rows(file), ROWS) and np.array_equal(rows(other), ROWS)


def test_files_are_read_side_by_side(path: Path) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(rows(opened(path)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert all(np.array_equal(one, ROWS) for one in found)


def test_the_digest_is_of_all_bytes_whoever_reads_them(path: Path) -> None:
    import xxhash

    with DropReader(path) as file:
        assert np.array_equal(rows(Hdf5().open(file, Hdf5Options())), ROWS)  # type: ignore[arg-type]
        digest = file.digest()

    assert digest == xxhash.xxh3_128(path.read_bytes()).hexdigest()


def test_a_file_that_was_moved_meanwhile_is_read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        path.rename(path.with_name("b.h5"))

        assert np.array_equal(rows(Hdf5().open(file, Hdf5Options())), ROWS)


def test_a_child_ends_with_its_socket(path: Path) -> None:
    file = opened(path)

    file.child._pipe.close()

    assert file.child._process.wait(30) == 0


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype(">f4"),
        np.dtype("?"),
        np.dtype("V3"),
        np.dtype("M8[ns]", metadata={"h5py_opaque": True}),
        np.dtype("S4", metadata={"h5py_encoding": "utf-8"}),
        h5py.enum_dtype({"off": 0, "on": 1}, "i2"),
        np.dtype([("a", "i1"), ("b", [("c", "<f8", (2, 3))])], align=True),
        np.dtype([("kind", h5py.enum_dtype({"on": 1}, "u1"))]),
    ],
    ids=str,
)
def test_a_type_arrives_as_it_was_sent(dtype: np.dtype) -> None:
    one, other = socket.socketpair()
    with one, other:
        wire.send(one, wire.pack_dtype(dtype))
        found = wire.unpack_dtype(wire.receive(other))

    assert found == dtype and found.itemsize == dtype.itemsize
    assert found.metadata == dtype.metadata
    assert h5py.h5t.py_create(found, logical=True) == h5py.h5t.py_create(dtype, logical=True)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        [["plain", "|O", {}], [3], 1, None, ""],
        [["record", [["a", ["plain", "|O", {}], 0]], 8], [3], 1, None, ""],
        [["plain", "<f8", {}], [-3], 1, None, ""],
        [["plain", "<f8", {}], [3.5], 1, None, ""],
        [["plain", "<f8", {}], [3], 1, ["what"], ""],
        ["x", [3], 1, None, ""],
    ],
    ids=str,
)
def test_what_makes_no_sense_is_not_believed(said: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        wire.unpack_member(said)


def test_a_message_without_end_is_not_read() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"\xff" * 4)
        with pytest.raises(ValueError, match="too long"):
            wire.receive(other)


def test_a_disk_that_fails_is_no_bad_file() -> None:
    from ingestd.isolated.child import _said

    assert _said(OSError(5, "Input/output error")) == {"errno": 5}
    assert _said(OSError("read failed: time = now, errno = 116, error message")) == {"errno": 116}
    assert _said(OSError("truncated file")) == {"failed": "OSError: truncated file"}
    assert _said(BadFile("a", "b", "c")) == {"bad": ["a", "b", "c"]}


def test_no_more_of_a_file_is_read_than_it_has() -> None:
    from ingestd.isolated.source import Source

    fd = os.memfd_create("test")
    try:
        os.write(fd, b"abcdef")
        source = Source(fd)
        source.seek(-2, io.SEEK_END)
        buffer = bytearray(4)

        assert source.readinto(buffer) == 2
        assert buffer == b"ef\0\0"
        assert source.tell() == 6
    finally:
        os.close(fd)
