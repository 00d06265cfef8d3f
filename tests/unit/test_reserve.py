"""The reserve lies beyond an output's end, changes nothing in it, and goes when it should."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import ENVIRONMENT

from ingestd.errors import BusyWorld
from ingestd.model import RowType
from ingestd.repair import inspect, repair
from ingestd.sinks import DatasetSpec, reserve
from ingestd.sinks.hdf5 import Hdf5Sink
from ingestd.sinks.reserve import Reserve

MIB = 1 << 20
SPEC = DatasetSpec(RowType(np.dtype("u1"), (1024,)), 64)


def rows(count: int, value: int = 7) -> np.ndarray:
    return np.full((count, 1024), value, "u1")


def ahead(path: Path) -> int:
    """Bytes that are allocated beyond what the file fills; the last block's rest is no reserve."""
    found = path.stat()
    return found.st_blocks * 512 - found.st_size


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB with nothing on it."""
    if os.geteuid():
        pytest.skip("only root may mount")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", place]
    if request.param == "ext4":
        image = tmp_path / "image"
        image.touch()
        os.truncate(image, 48 * MIB)
        try:
            made = subprocess.run(["mkfs.ext4", "-q", "-m0", image])
        except FileNotFoundError:
            pytest.skip("no mkfs.ext4")
        assert made.returncode == 0
        mount = ["mount", "-o", "loop", image, place]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this root may not mount (a container?)")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def output(disk: Path) -> Path:
    return disk / "out.h5"


def opened(path: Path, nbytes: int = 16 * MIB) -> Hdf5Sink:
    sink = Hdf5Sink(path, nbytes)
    sink.ensure({"/data": SPEC}, {})
    return sink


def test_it_is_there_while_the_output_is_open_and_is_gone_when_it_is_closed(output) -> None:
    sink = opened(output)

    held, size = ahead(output), output.stat().st_size
    sink.append("/data", rows(100))
    sink.flush(durable=True)
    grown = ahead(output)
    sink.close()

    assert size < MIB
    assert held >= 16 * MIB
    assert 8 * MIB <= grown < held
    assert ahead(output) < MIB
    assert inspect(output).healthy


def test_it_is_topped_up_in_large_steps_when_half_is_used(output, monkeypatch) -> None:
    sink = opened(output, 8 * MIB)
    steps: list[int] = []
    allocate = reserve._allocate
    monkeypatch.setattr(
        reserve, "_allocate", lambda fd, at, n: (steps.append(n), allocate(fd, at, n))
    )

    for _ in range(160):
        sink.append("/data", rows(128))
        sink.flush()
        assert ahead(output) >= 4 * MIB - 64 * 1024
    sink.close()

    assert 3 <= len(steps) <= 6
    assert ahead(output) < MIB


def test_an_append_larger_than_the_reserve_has_room_before_it_is_written(output) -> None:
    sink = opened(output, MIB)

    sink.append("/data", rows(20_000))

    assert ahead(output) >= MIB // 2
    sink.close()


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_rows_are_the_same_as_without(output, compression) -> None:
    plain = output.with_name("plain.h5")
    for path, nbytes in ((output, 4 * MIB), (plain, 0)):
        sink = Hdf5Sink(path, nbytes)
        sink.ensure({"/data": DatasetSpec(SPEC.type, 64, compression)}, {})
        for value in range(40):
            sink.append("/data", rows(37, value))
            sink.flush()
        sink.cut({"/data": 1000})
        sink.append("/data", rows(5))
        sink.close()

    assert output.read_bytes() == plain.read_bytes()


def test_a_full_disk_is_met_before_anything_is_written(disk, output) -> None:
    sink = opened(output)
    sink.append("/data", rows(64, 1))
    sink.flush(durable=True)
    with (disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(free(disk) - 2 * MIB))

    with pytest.raises(BusyWorld, match=r"out\.h5: No space left on device for its reserve"):
        for value in range(2, 50):
            sink.append("/data", rows(1024, value))
    held = ahead(output)
    sink.abandon()

    # Never a write that failed: HDF5 closed it whole, with room to spare.
    assert held >= 4 * MIB
    assert inspect(output).healthy
    with h5py.File(output) as file:
        assert (file["/data"][:64] == 1).all()
    # What waits holds nothing.
    assert ahead(output) < MIB
    assert free(disk) > 4 * MIB


def test_where_there_is_no_room_the_output_is_not_opened_and_nothing_is_taken(disk, output) -> None:
    opened(output, 0).close()
    before, room = output.read_bytes(), free(disk)

    with pytest.raises(BusyWorld, match="No space left on device for its reserve of 100 MiB"):
        Hdf5Sink(output, 100 * MIB)

    assert output.read_bytes() == before
    assert free(disk) == room


@pytest.mark.parametrize("nbytes", [0, 4 * MIB, 16 * MIB])
def test_what_a_crash_left_is_given_back_or_taken_over(output, nbytes) -> None:
    crash = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from test_reserve import *; sink = opened(Path(sys.argv[1]));"
        "sink.append('/data', rows(64, 1)); sink.flush(); os._exit(9)"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", crash, output, here]
    path = os.pathsep.join(filter(None, [str(here.parent), ENVIRONMENT.get("PYTHONPATH", "")]))
    done = subprocess.run(command, env={**ENVIRONMENT, "PYTHONPATH": path})
    assert done.returncode == 9
    size, left = output.stat().st_size, ahead(output)

    repair(output)
    sink = Hdf5Sink(output, nbytes)
    taken = ahead(output)
    sink.close()

    assert left > 15 * MIB
    assert output.stat().st_size == size
    assert nbytes - MIB <= taken <= nbytes + 2 * MIB
    assert ahead(output) < MIB
    with h5py.File(output) as file:
        assert (file["/data"][:] == 1).all()


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_cannot_is_said_once(tmp_path, monkeypatch, caplog, number) -> None:
    def cannot(fd: int, offset: int, nbytes: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(reserve, "_allocate", cannot)
    monkeypatch.setattr(logging.getLogger("ingestd"), "propagate", True)

    for _ in range(2):
        sink = opened(tmp_path / "out.h5", MIB)
        for _ in range(3):
            sink.append("/data", rows(1024))
            sink.flush()
        sink.close()

    assert [record.getMessage() for record in caplog.records] == [
        "the file system cannot allocate ahead: going on without reserve"
    ]


def test_a_quota_that_is_met_is_a_busy_world(tmp_path, monkeypatch) -> None:
    def refused(fd: int, offset: int, nbytes: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(reserve, "_allocate", refused)

    with pytest.raises(BusyWorld, match="quota exceeded for its reserve"):
        opened(tmp_path / "out.h5", MIB)


def test_another_file_in_its_place_is_left_alone(tmp_path) -> None:
    path = tmp_path / "out.h5"
    path.write_bytes(b"ours")
    held = Reserve(path, MIB)
    held.take()
    path.unlink()
    path.write_bytes(b"theirs")
    stranger = path.stat()

    held.top_up()
    held.give_back()

    assert path.stat() == stranger
    path.unlink()
    held.give_back()


def test_without_a_reserve_a_file_is_not_touched(tmp_path) -> None:
    path = tmp_path / "out.h5"
    path.write_bytes(b"rows")
    before = path.stat()

    held = Reserve(path, 0)
    held.take()
    held.ahead_of(1 << 40)
    held.top_up()
    held.give_back()

    assert path.stat().st_ctime_ns == before.st_ctime_ns
