"""A change to an HDF5 file is made whole or not at all, wherever it is cut short."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.sinks import hdf5_edit
from ingestd.sinks.hdf5_edit import LIBVER, _Overlay, edit, journal_path, replay

ROWS = 64


class Died(BaseException):
    """The process ended here."""


@pytest.fixture
def output(tmp_path) -> Path:
    """A closed file: /data of 64 rows (some of its chunks compressed) and a group."""
    path = tmp_path / "out.h5"
    make(path)
    return path


def make(path: Path, compression: str | None = None, rows: int = ROWS) -> None:
    with h5py.File(path, "w", libver=LIBVER) as file:
        for name in ("data", "entry/gzip"):
            file.create_dataset(
                name,
                data=np.arange(rows * 4).reshape(rows, 4),
                maxshape=(None, 4),
                chunks=(2, 4),
                compression=compression or ("gzip" if "gzip" in name else None),
            )


def change(file: h5py.File) -> None:
    file["data"].resize(10, axis=0)
    file["entry/gzip"].resize(7, axis=0)
    made = file.create_dataset("entry/new", (0, 3), "f4", maxshape=(None, 3), chunks=(5, 3))
    made.attrs["units"] = "mm"


def state_of(path: Path) -> str:
    """``old`` or ``new``: what the file holds, all of it checked."""
    with h5py.File(path, "r") as file:
        new = "entry/new" in file
        ends = (10, 7) if new else (ROWS, ROWS)
        for name, end in zip(("data", "entry/gzip"), ends, strict=True):
            assert np.array_equal(file[name][:], np.arange(end * 4).reshape(end, 4))
        if new:
            assert file["entry/new"].attrs["units"] == "mm"
    return "new" if new else "old"


def can_grow(path: Path) -> None:
    """The file takes rows as before, and keeps those it has."""
    with h5py.File(path, "r+", libver=LIBVER) as file:
        data = file["data"]
        start = len(data)
        data.resize(start + 50, axis=0)
        data[start:] = -1
    with h5py.File(path, "r") as file:
        assert (file["data"][start:] == -1).all()
        assert np.array_equal(file["data"][:start], np.arange(start * 4).reshape(start, 4))


def count_down(monkeypatch, steps: int, *, after: bool) -> list[str]:
    """Die at the step of that number, before or after it is done; gives the steps taken."""
    taken: list[str] = []

    def stop_at(owner: object, name: str) -> None:
        real: Callable[..., object] = getattr(owner, name)

        def step(*args: object, **kwargs: object) -> object:
            last = len(taken) == steps
            taken.append(name)
            if last and not after:
                raise Died
            result = real(*args, **kwargs)
            if last:
                raise Died
            return result

        monkeypatch.setattr(owner, name, step)

    for owner, name in ((os, "pwrite"), (os, "fsync"), (Path, "rename"), (Path, "unlink")):
        stop_at(owner, name)
    return taken


def steps_of_an_edit(path: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        taken = count_down(patch, 10**6, after=False)
        with edit(path) as file:
            change(file)
    return len(taken)


@pytest.mark.parametrize("after", [False, True])
def test_an_edit_that_dies_at_any_step_is_replayed_to_wholly_old_or_new(tmp_path, after) -> None:
    kept = tmp_path / "kept.h5"
    make(kept)
    path = tmp_path / "out.h5"
    shutil.copy(kept, path)
    steps = steps_of_an_edit(path)
    found = []

    for step in range(steps):
        shutil.copy(kept, path)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
            count_down(patch, step, after=after)
            with edit(path) as file:
                change(file)
        replay(path)
        found.append(state_of(path))
        can_grow(path)

    assert steps > 4
    assert found == sorted(found, reverse=True)
    assert set(found) == {"old", "new"}


def test_a_replay_that_dies_at_any_step_is_mended_by_the_next(tmp_path) -> None:
    kept = tmp_path / "kept.h5"
    make(kept)
    journal = left_journal(kept)
    path = tmp_path / "out.h5"
    for step in range(100):
        shutil.copy(kept, path)
        journal_path(path).write_bytes(journal)
        with pytest.MonkeyPatch.context() as patch:
            taken = count_down(patch, step, after=False)
            try:
                replay(path)
            except Died:
                pass
            else:
                break

        replay(path)

        assert state_of(path) == "new"
    assert len(taken) == step > 3


def left_journal(path: Path) -> bytes:
    """The journal of a ``change``, made on a copy."""
    copy = path.with_name("copy.h5")
    shutil.copy(path, copy)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        patch.setattr(hdf5_edit, "replay", dies)
        with edit(copy) as file:
            change(file)
    return journal_path(copy).read_bytes()


def dies(path: Path) -> bool:
    raise Died


def test_replaying_twice_is_harmless(output) -> None:
    journal = left_journal(output)

    for _ in range(2):
        journal_path(output).write_bytes(journal)
        assert replay(output)
        assert state_of(output) == "new"

    assert not replay(output)
    assert not journal_path(output).exists()


@pytest.mark.parametrize("keep", [0, 7, 20, -9, -1])
def test_a_torn_journal_is_ignored(output, keep: int) -> None:
    journal_path(output).write_bytes(left_journal(output)[:keep])

    replay(output)

    assert state_of(output) == "old"
    assert not journal_path(output).exists()


def test_a_journal_with_a_flipped_bit_is_ignored(output) -> None:
    journal = bytearray(left_journal(output))
    journal[len(journal) // 2] ^= 1
    journal_path(output).write_bytes(journal)

    replay(output)

    assert state_of(output) == "old"


def test_the_end_of_a_journal_is_on_disk_before_the_file_is_written_again(
    output, monkeypatch
) -> None:
    taken = count_down(monkeypatch, 10**6, after=False)

    with edit(output) as file:
        change(file)

    # A journal that came back after a loss of power would undo what was written since.
    assert taken[-2:] == ["unlink", "fsync"]


def test_a_change_that_fails_leaves_the_file_as_it_was(output) -> None:
    before = output.read_bytes()

    with pytest.raises(ValueError, match="on purpose"):
        with edit(output) as file:
            change(file)
            raise ValueError("on purpose")

    assert output.read_bytes() == before
    assert not journal_path(output).exists()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_cut_of_many_chunks_is_small_and_leaves_the_rest(tmp_path, compression) -> None:
    path = tmp_path / "out.h5"
    make(path, compression, rows=20_000)

    with edit(path) as file:
        file["data"].resize(3, axis=0)
        file["entry/gzip"].resize(9_999, axis=0)

    with h5py.File(path, "r") as file:
        assert np.array_equal(file["data"][:], np.arange(12).reshape(3, 4))
        kept = file["entry/gzip"][:]
    assert np.array_equal(kept, np.arange(9_999 * 4).reshape(9_999, 4))


def test_a_reader_that_is_attached_carries_on(tmp_path) -> None:
    path = tmp_path / "out.h5"
    make(path)
    with h5py.File(path, "r", swmr=True, locking=False) as reader:
        data = reader["data"]
        assert len(data) == ROWS

        with edit(path) as file:
            change(file)

        data.refresh()
        assert np.array_equal(data[:], np.arange(40).reshape(10, 4))


def test_a_journal_is_what_its_format_says(output) -> None:
    journal = left_journal(output)
    magic = b"ingestd edit 1\n"
    body, digest = journal[len(magic) : -8], journal[-8:]

    assert journal.startswith(magic)
    assert xxhash.xxh3_64_digest(body) == digest
    writes = list(_writes(body))
    assert writes
    assert sum(len(data) + 16 for _, data in writes) == len(body)


def _writes(body: bytes) -> Iterator[tuple[int, bytes]]:
    while body:
        offset, length = struct.unpack_from("<QQ", body)
        yield offset, body[16 : 16 + length]
        body = body[16 + length :]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 300), st.binary(min_size=1, max_size=80)),
        st.tuples(st.just("read"), st.integers(0, 400), st.integers(0, 200)),
    ),
    max_size=30,
)


@given(base=st.binary(max_size=200), operations=OPERATIONS)
@settings(max_examples=150, deadline=None)
def test_the_overlay_reads_like_a_plain_file_and_changes_nothing(
    tmp_path_factory, base: bytes, operations: list[tuple[str, int, object]]
) -> None:
    directory = tmp_path_factory.getbasetemp()
    below, plain = directory / "below", directory / "plain"
    below.write_bytes(base)
    plain.write_bytes(base)

    with below.open("rb") as file, plain.open("r+b", buffering=0) as expected:
        overlay = _Overlay(file.fileno())
        for kind, offset, what in operations:
            assert overlay.seek(offset) == expected.seek(offset)
            if kind == "write":
                assert overlay.write(what) == expected.write(what)
            else:
                assert overlay.read(what) == expected.read(what)
            assert overlay.tell() == expected.tell()
        assert overlay.seek(0, os.SEEK_END) == expected.seek(0, os.SEEK_END)

    assert below.read_bytes() == base
    with below.open("r+b") as file:
        for offset, data in overlay.writes:
            hdf5_edit._pwrite(file.fileno(), data, offset)
    assert below.read_bytes() == plain.read_bytes()
