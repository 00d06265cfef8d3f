"""The other process: many files leave the drop directory; what is not simple stays there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.model import Fingerprint
from ingestd.pipeline.hands import Hands


@pytest.fixture
def hands() -> Iterator[Hands]:
    made = Hands()
    yield made
    made.close()


def dropped(root: Path, *names: str) -> list[tuple[str, int, int, int]]:
    """Files in ``root/drop``, as the hands is told of them."""
    files = []
    for name in names:
        path = root / "drop" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
        files.append((name, *Fingerprint.of(path.lstat())))
    return files


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_files_are_moved_to_a_directory_that_it_makes(tmp_path, hands) -> None:
    files = dropped(tmp_path, "a.npy", "b ü\n.npy", os.fsdecode(b"c\xff.npy"))

    assert hands.move(str(tmp_path / "drop"), str(tmp_path / "x/done"), files) == [True] * 3

    assert names(tmp_path / "x/done") == sorted(name for name, *_ in files)
    assert names(tmp_path / "drop") == []


def test_files_are_deleted(tmp_path, hands) -> None:
    files = dropped(tmp_path, "a.npy", "b.npy")

    assert hands.move(str(tmp_path / "drop"), None, files) == [True, True]

    assert names(tmp_path / "drop") == []


def test_what_is_not_simple_stays_where_it_is(tmp_path, hands) -> None:
    files = dropped(tmp_path, "there.npy", "changed.npy", "gone.npy", "below/x.npy", "good.npy")
    (tmp_path / "done").mkdir()
    (tmp_path / "done/there.npy").write_bytes(b"mine")
    (tmp_path / "drop/changed.npy").write_bytes(b"another content")
    (tmp_path / "drop/gone.npy").unlink()

    moved = hands.move(str(tmp_path / "drop"), str(tmp_path / "done"), files)

    assert moved == [False, False, False, False, True]
    assert (tmp_path / "done/there.npy").read_bytes() == b"mine"
    assert names(tmp_path / "drop") == ["below", "changed.npy", "there.npy"]


@pytest.mark.parametrize("drop", ["drop", "nowhere"])
def test_directories_that_cannot_be_had_fail_all_of_it(tmp_path, hands, drop: str) -> None:
    files = dropped(tmp_path, "a.npy")
    (tmp_path / "file").touch()

    assert hands.move(str(tmp_path / drop), str(tmp_path / "file"), files) == [False]


def test_a_hands_that_was_killed_moves_nothing_once_and_is_started_again(tmp_path, hands) -> None:
    first, second, third = dropped(tmp_path, "1.npy", "2.npy", "3.npy")
    place = str(tmp_path / "drop"), str(tmp_path / "done")
    assert hands.move(*place, [first]) == [True]
    assert hands._process is not None
    os.kill(hands._process.pid, signal.SIGKILL)
    hands._process.wait()

    assert hands.move(*place, [second]) == [False]
    assert hands.move(*place, [second, third]) == [True, True]


def test_it_ends_with_its_parent(tmp_path, hands) -> None:
    hands.move(str(tmp_path), None, [])
    process = hands._process
    assert process is not None and process.stdin is not None

    process.stdin.close()

    assert process.wait(10) == 0


def test_one_that_can_never_start_is_tried_a_few_times_only(tmp_path, hands, monkeypatch) -> None:
    files = dropped(tmp_path, "a.npy")
    started = []

    def refuse(*args: object, **keywords: object) -> None:
        started.append(args)
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr("subprocess.Popen", refuse)
    target = bytearray(1)

    for _ in range(5):
        assert hands.move(str(tmp_path / "drop"), None, files) == [False]
    read = hands.read(str(tmp_path / "drop"), files, b"a.np", 1, False, memoryview(target))

    assert len(started) == 3
    assert (len(read), target) == (1, b"y")
