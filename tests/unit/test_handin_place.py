"""A file appears in a drop directory whole and under its name, or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ENVIRONMENT

from ingestd.config import Settle
from ingestd.errors import IngestdError
from ingestd.handin import place
from ingestd.model import Fingerprint
from ingestd.pipeline.settle import open_wait_seconds

DIES_HALFWAY = """
import os, signal, sys
from pathlib import Path
from ingestd.handin import place

def half(source, target):
    os.sendfile(target, source, None, 50)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "hidden":
    place.os.O_TMPFILE = os.O_RDWR | os.O_DIRECTORY
place._copy_bytes = half
place.bring(Path("a.npy"), Path("drop/a.npy"), link=False)
"""


@pytest.fixture
def file(tmp_path) -> Path:
    made = tmp_path / "a.npy"
    made.write_bytes(b"x" * 100_000)
    os.utime(made, ns=(1, 1_234_567_891_234_567_891))
    return made


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop" / "a.npy"


@pytest.fixture(params=["nameless", "hidden"])
def each_way(request, monkeypatch) -> str:
    """With file systems that have files without a name, and those that do not."""
    if request.param == "hidden":
        no_nameless(monkeypatch)
    return request.param


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def no_nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel's answer to a directory opened for writing is that of old file systems.
    monkeypatch.setattr(place.os, "O_TMPFILE", os.O_RDWR | os.O_DIRECTORY)


def test_a_copy_is_alike_in_content_time_and_mode_and_shares_nothing(
    each_way, file, target
) -> None:
    file.chmod(0o640)

    known = place.bring(file, target, link=False)

    assert target.read_bytes() == file.read_bytes()
    assert known == Fingerprint.of(target.stat())
    assert target.stat().st_mtime_ns == file.stat().st_mtime_ns
    assert target.stat().st_mode == file.stat().st_mode
    assert target.stat().st_ino != file.stat().st_ino
    assert names(target.parent) == ["a.npy"]


def test_a_copy_has_its_name_only_when_nobody_has_it_open_for_writing(
    each_way, file, target, monkeypatch
) -> None:
    appear, waits = place._appear, []

    def looked_at(fd: int, name: Path | None, target: Path) -> None:
        appear(fd, name, target)
        with place.open_original(target) as found:
            waits.append(open_wait_seconds(Settle("closed"), found.fileno()))

    monkeypatch.setattr(place, "_appear", looked_at)
    place.bring(file, target, link=False)

    assert waits == [0.0]


def test_another_file_of_the_name_is_never_replaced(each_way, file, target) -> None:
    target.write_bytes(b"another")

    for link in (False, True):
        with pytest.raises(FileExistsError):
            place.bring(file, target, link=link)

    assert target.read_bytes() == b"another"
    assert names(target.parent) == ["a.npy"]


def test_a_link_is_the_file_itself_until_the_original_is_removed(file, target) -> None:
    inode = file.stat().st_ino

    known = place.bring(file, target, link=True)
    place.remove(file, target)

    assert known == Fingerprint.of(target.stat())
    assert target.stat().st_ino == inode
    assert not file.exists()


def test_where_no_link_can_be_made_a_copy_is(file, target, monkeypatch) -> None:
    link = os.link

    def other_device(source: Any, path: Path, **how: Any) -> None:
        if source == file:
            raise OSError(errno.EXDEV, "another device")
        link(source, path, **how)

    monkeypatch.setattr(place.os, "link", other_device)
    place.bring(file, target, link=True)

    assert target.read_bytes() == file.read_bytes()
    assert target.stat().st_ino != file.stat().st_ino


def test_where_the_kernel_cannot_copy_a_range_it_sends(file, target, monkeypatch) -> None:
    def unknown(*_: Any) -> int:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(place.os, "copy_file_range", unknown)
    place.bring(file, target, link=False)

    assert target.read_bytes() == file.read_bytes()


def test_a_file_that_grows_while_it_is_copied_is_not_handed_in(
    each_way, file, target, monkeypatch
) -> None:
    copy = place._copy_bytes

    def meanwhile(source: int, goal: int) -> None:
        copy(source, goal)
        with file.open("ab") as more:
            more.write(b"more")

    monkeypatch.setattr(place, "_copy_bytes", meanwhile)
    with pytest.raises(IngestdError, match="changed while it was copied"):
        place.bring(file, target, link=False)

    assert names(target.parent) == []


@pytest.mark.parametrize(("way", "left"), [("nameless", 0), ("hidden", 1)])
def test_put_killed_halfway_through_a_copy_leaves_nothing_that_a_source_takes(
    way: str, left: int, file, target, tmp_path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", DIES_HALFWAY, way], cwd=tmp_path, env=ENVIRONMENT, timeout=60
    )

    there = names(target.parent)
    assert killed.returncode == -signal.SIGKILL
    assert len(there) == left
    assert all(name.startswith(".put-") and name.endswith(".part") for name in there)


def test_what_lies_there_is_known_again_by_time_and_content(file, target) -> None:
    assert place.lying(file, target) is None
    known = place.bring(file, target, link=False)
    assert place.lying(file, target) == known
    assert place.lies(target, known)

    target.write_bytes(b"y" * 100_000)
    os.utime(target, ns=(1, file.stat().st_mtime_ns))
    assert place.lying(file, target) is None
    target.unlink()
    assert not place.lies(target, known)


def test_a_symbolic_link_is_not_followed_and_a_pipe_not_waited_for(file, tmp_path) -> None:
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError):
        place.open_original(tmp_path / "link")
    place.open_original(tmp_path / "pipe").close()
