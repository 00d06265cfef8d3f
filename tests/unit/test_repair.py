from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import ingestd.repair
import ingestd.writers
from ingestd import superblock
from ingestd.cli.mend import repair as command
from ingestd.errors import BusyWorld
from ingestd.repair import CannotRepair, inspect, opens, repair

LIBVER = ("v110", "v114")


def in_a_child_that_dies(work: Callable[[], object]) -> int:
    """What it holds open is left as a crash leaves it. Returns the exit code; 3: got through."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crashed(path: Path, reopened: bool = False, **options: object) -> Path:
    """A file of a SWMR writer that died: 60 rows of 4 in /rows, 0, 1, 2, ..."""

    def write() -> None:
        file = h5py.File(path, "w", libver=LIBVER, **options)
        file.create_dataset("rows", (0, 4), maxshape=(None, 4), chunks=(8, 4), dtype="i8")
        file["free"] = np.zeros(5000)
        del file["free"]
        if reopened:
            file.close()
            file = h5py.File(path, "r+", libver=LIBVER)
        rows = file["rows"]
        file.swmr_mode = True
        for start in range(0, 60, 5):
            rows.resize(start + 5, axis=0)
            rows[start:] = np.arange(start * 4, start * 4 + 20).reshape(5, 4)
            rows.flush()
        os._exit(0)  # before h5py closes the file, which it does once nobody holds it

    assert in_a_child_that_dies(write) == 0
    return path


def rows_of(path: Path) -> list[int]:
    with h5py.File(path, "r") as file:
        return file["rows"][:].ravel().tolist()


def append(path: Path, rows: int) -> None:
    with h5py.File(path, "r+", libver=LIBVER) as file:
        start = file["rows"].shape[0]
        file["rows"].resize(start + rows, axis=0)
        file["rows"][start:] = np.arange(start * 4, (start + rows) * 4).reshape(rows, 4)


SPACES = [
    {},
    {"userblock_size": 2048},
    {"fs_strategy": "fsm", "fs_persist": True},
    {"fs_strategy": "page", "fs_persist": True},
    {"fs_strategy": "page"},
    {"fs_strategy": "aggregate"},
    {"fs_strategy": "none"},
]


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("options", SPACES, ids=lambda o: "-".join(map(str, o.values())) or "plain")
def test_a_crashed_file_opens_and_grows_whatever_way_it_keeps_free_space(
    tmp_path, options, reopened
):
    path = crashed(tmp_path / "a.h5", reopened, **options)
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path, "r")

    done = repair(path)
    append(path, 40)

    assert done.opens is None and done.diagnosis.flags == 5
    assert rows_of(path) == list(range(400))
    assert repair(path).diagnosis.healthy


def test_the_copy_holds_what_is_needed_to_undo_the_repair(tmp_path):
    path = crashed(tmp_path / "a.h5", reopened=True, fs_strategy="page", fs_persist=True)
    before = path.read_bytes()

    done = repair(path)

    assert done.copy is not None
    copy = json.loads(done.copy.read_text())
    undone = bytearray(path.read_bytes())
    for change in copy["changes"]:
        old = bytes.fromhex(change["old"])
        undone[change["offset"] : change["offset"] + len(old)] = old
    assert undone[: copy["size"]] == before
    assert path.read_bytes() != before


def test_the_copy_goes_where_the_caller_wants_it(tmp_path):
    path = crashed(tmp_path / "a.h5")

    done = repair(path, backup=tmp_path / "kept.json")

    assert done.copy == tmp_path / "kept.json" and done.copy.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "kept.json"]


def test_a_dry_run_says_what_it_would_change_and_changes_nothing(tmp_path):
    path = crashed(tmp_path / "a.h5")
    before = path.read_bytes()

    done = repair(path, dry_run=True)

    assert done.diagnosis.changes and done.copy is None
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("options", [{}, {"fs_strategy": "page", "fs_persist": True}])
def test_a_repair_that_dies_at_any_step_is_finished_by_the_next(tmp_path, options, monkeypatch):
    monkeypatch.setattr(ingestd.repair, "opens", lambda path: None)
    image = crashed(tmp_path / "a.h5", reopened=bool(options), **options).read_bytes()
    path = tmp_path / "b.h5"
    names = ["fsync", "pwrite", "ftruncate", "open", "close", "pread"]
    real = {name: getattr(os, name) for name in names}

    def dies_at(step: int) -> int:
        calls = iter(range(step))

        def counted(name: str) -> Callable[..., object]:
            def call(*args: object) -> object:
                if next(calls, None) is None:
                    os._exit(1)
                return real[name](*args)

            return call

        def work() -> None:
            for name in names:
                monkeypatch.setattr(os, name, counted(name))
            repair(path, backup=tmp_path / "copy.json")

        path.write_bytes(image)
        return in_a_child_that_dies(work)

    steps = 0
    while dies_at(steps) == 1:
        repair(path, backup=tmp_path / "copy.json")
        append(path, 40)
        assert rows_of(path) == list(range(400)), f"after a death at step {steps}"
        steps += 1

    assert steps > 10


def test_a_file_shorter_than_its_end_of_allocation_is_extended_with_a_warning(tmp_path):
    path = crashed(tmp_path / "a.h5")
    repair(path)
    size = path.stat().st_size
    with h5py.File(path, "r+", libver=LIBVER) as file:
        file["last"] = np.ones(1000)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 500)
    with pytest.raises(OSError, match="truncated file"):
        h5py.File(path, "r")

    done = repair(path)

    assert done.opens is None
    assert done.diagnosis.new_size - done.diagnosis.size == 500 and path.stat().st_size > size
    assert "last 500 bytes" in done.diagnosis.warnings[0]
    assert rows_of(path) == list(range(240))


def test_flags_cleared_by_hand_under_a_wrong_checksum_are_mended_and_said(tmp_path):
    path = crashed(tmp_path / "a.h5")
    with path.open("r+b") as file:
        file.seek(11)
        file.write(b"\0")

    done = repair(path)

    assert done.opens is None and "checksum" in done.diagnosis.problems[0]
    assert "other than HDF5" in done.diagnosis.warnings[0]
    assert rows_of(path) == list(range(240))


def test_a_stale_end_behind_cleared_flags_is_mended_before_it_costs_data(tmp_path):
    path = crashed(tmp_path / "a.h5")
    block = superblock.parse(path.read_bytes()[:48], 0)
    with path.open("r+b") as file:
        file.write(superblock.replace(block, flags=0).encoded())

    done = repair(path)
    append(path, 40)

    assert done.diagnosis.new_end == done.diagnosis.size
    assert rows_of(path) == list(range(400))


def test_a_damaged_superblock_is_refused_and_left_alone(tmp_path):
    path = crashed(tmp_path / "a.h5")
    image = bytearray(path.read_bytes())
    image[36:44] = b"\x11" * 8
    path.write_bytes(image)

    with pytest.raises(CannotRepair, match="superblock is damaged"):
        repair(path)

    assert path.read_bytes() == image


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "empty"),
        (bytes(5000), "starts with zeros"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "npy"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b"1,2,3\n", "starts with b'1,2,3"),
    ],
)
def test_what_is_not_hdf5_is_refused_with_what_it_looks_like(tmp_path, content, looks):
    path = tmp_path / "a.h5"
    path.write_bytes(content)

    with pytest.raises(CannotRepair, match=looks):
        repair(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    for path, why in [
        (tmp_path, "not a regular file"),
        (tmp_path / "fifo", "not a regular file"),
        (tmp_path / "none", "No such file"),
    ]:
        with pytest.raises(CannotRepair, match=why):
            repair(path)


def test_a_healthy_file_without_marks_of_writers_has_nothing_to_repair(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file["x"] = 1

    done = repair(path)

    assert done.diagnosis.healthy and done.diagnosis.version == 0 and done.opens is None


@pytest.fixture(params=[True, False], ids=["locking", "without locks"])
def live_writer(request, tmp_path):
    code = (
        "import sys, h5py\n"
        "f = h5py.File(sys.argv[1], 'w', libver='latest', locking=sys.argv[2] == 'True')\n"
        "f.create_dataset('rows', (0,), maxshape=(None,), chunks=(8,), dtype='i8')\n"
        "f.swmr_mode = True\n"
        "print('writing', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = tmp_path / "live.h5"
    with subprocess.Popen(
        [sys.executable, "-c", code, path, str(request.param)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        yield path, process
        process.stdin.close()


@pytest.mark.parametrize("refusal", [None, errno.EACCES, errno.EINVAL])
def test_a_file_that_is_being_written_is_left_alone(live_writer, refusal, monkeypatch):
    path, process = live_writer
    before = path.read_bytes()
    real = fcntl.fcntl

    def no_lease(fd: int, request: int, value: int) -> object:
        if refusal and request == fcntl.F_SETLEASE:
            raise OSError(refusal, os.strerror(refusal))
        return real(fd, request, value)

    monkeypatch.setattr(ingestd.writers.fcntl, "fcntl", no_lease)
    with pytest.raises(BusyWorld, match=f"written by process {process.pid}"):
        repair(path)

    assert path.read_bytes() == before


def test_no_lease_is_left_behind_that_would_delay_the_next_writer(tmp_path):
    path = crashed(tmp_path / "a.h5")

    fd = os.open(path, os.O_RDONLY)
    try:
        assert ingestd.writers.refuse_if_written(fd, path) is None
        assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    finally:
        os.close(fd)


def test_a_reader_that_was_attached_before_the_crash_sees_rows_of_the_next_writer(tmp_path):
    path = crashed(tmp_path / "a.h5")
    with h5py.File(path, "r", swmr=True) as file:
        rows = file["rows"]
        assert rows.shape == (60, 4)

        done = repair(path)
        code = (
            "import sys, h5py\n"
            "f = h5py.File(sys.argv[1], 'r+', libver=('v110', 'v114'), locking=False)\n"
            "f.swmr_mode = True\n"
            "f['rows'].resize(70, axis=0)\n"
            "f['rows'][60:] = 7\n"
        )
        subprocess.run([sys.executable, "-c", code, path], check=True)
        rows.refresh()

        assert done.opens is None
        assert rows.shape == (70, 4) and (rows[60:] == 7).all()


def test_a_crash_of_hdf5_while_it_looks_is_reported(tmp_path, monkeypatch):
    die = "import os; os.kill(os.getpid(), 11)"
    monkeypatch.setattr(ingestd.repair, "_LOOK_THROUGH", die)

    assert opens(tmp_path / "a.h5") == "HDF5 crashed with signal 11 (SIGSEGV)"


def test_a_file_that_hdf5_never_gets_through_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(ingestd.repair, "_LOOK_THROUGH", "import signal; signal.pause()")

    assert opens(tmp_path / "a.h5", seconds=0.2) == "HDF5 was not through with it after 0.2 s"


def test_a_full_disk_is_a_busy_world_and_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = crashed(tmp_path / "a.h5")
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BusyWorld, match="no room"):
        repair(path)

    assert path.read_bytes() == before


def test_inspect_tells_what_is_wrong_without_touching_the_file(tmp_path):
    path = crashed(tmp_path / "a.h5")
    before = path.read_bytes()

    found = inspect(path)

    assert found.flags == superblock.WRITING | superblock.SWMR and not found.healthy
    assert found.end is not None and found.end < found.size == found.new_end
    assert path.read_bytes() == before


def test_the_command_prints_what_was_wrong_and_what_it_changed(tmp_path):
    path = crashed(tmp_path / "a.h5")

    first = CliRunner().invoke(command, [str(path)])
    second = CliRunner().invoke(command, [str(path)])

    assert first.exit_code == second.exit_code == 0
    for part in ["in SWMR mode", "changed 48 bytes at 0", "end of allocation", "repair-", "opens"]:
        assert part in first.output
    assert second.output == f"{path}: opens, nothing to repair\n"


def test_the_command_prints_json_that_programs_can_read(tmp_path):
    path = crashed(tmp_path / "a.h5")

    result = CliRunner().invoke(command, [str(path), "--json", "--dry-run"])

    said = json.loads(result.output)
    assert said["dry_run"] and not said["healthy"] and said["flags"] == 5
    assert said["changes"][0]["offset"] == 0 and said["new_end"] == said["new_size"]


def test_the_command_ends_with_1_and_a_reason_on_what_it_cannot_mend(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x93NUMPY\x01\x00")

    result = CliRunner().invoke(command, [str(path)])

    assert result.exit_code == 1
    assert "looks like a NumPy .npy file" in result.stderr


def test_the_command_ends_with_1_when_the_file_does_not_open_afterwards(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file["x"] = np.arange(1000)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)

    result = CliRunner().invoke(command, [str(path)])

    assert result.exit_code == 1
    assert "version 0, which keeps no mark of a writer" in result.stderr
