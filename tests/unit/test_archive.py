"""A drop file that is done with goes where it should, and nothing is overwritten on the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import drop_file, make_source

from ingestd.config import Source
from ingestd.errors import BadFile
from ingestd.ledger import Ledger, Settled
from ingestd.lifecycle import State
from ingestd.pipeline.archive import (
    put_back,
    quarantine,
    quarantined,
    reason_json,
    release,
)


def names(directory: Path) -> dict[str, bytes]:
    """Every file below ``directory`` with its content."""
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }


def dropped(source: Source, name: str = "a.npy", content: bytes = b"rows") -> None:
    path = source.drop / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_done_file_is_moved_and_doing_it_again_is_harmless(tmp_path) -> None:
    source = make_source(tmp_path)
    dropped(source)
    file = drop_file(source, "a.npy")

    release(source, file)
    release(source, file)

    assert names(tmp_path / "done") == {"a.npy": b"rows"}
    assert names(source.drop) == {}


def test_a_file_from_below_the_drop_directory_keeps_its_path(tmp_path) -> None:
    source = make_source(tmp_path, recursive=True)
    dropped(source, "run1/x/a.npy")

    release(source, drop_file(source, "run1/x/a.npy"))

    assert names(tmp_path / "done") == {"run1/x/a.npy": b"rows"}


@pytest.mark.parametrize(("after", "left"), [("delete", {}), ("keep", {"a.npy": b"rows"})])
def test_a_done_file_is_deleted_or_kept_as_the_config_says(tmp_path, after, left) -> None:
    source = make_source(tmp_path, after=after)
    dropped(source)
    file = drop_file(source, "a.npy")

    release(source, file)
    release(source, file)

    assert names(source.drop) == left


def test_another_content_of_the_same_name_is_kept_beside_the_first(tmp_path) -> None:
    source = make_source(tmp_path)
    for content in (b"one", b"two", b"three"):
        dropped(source, content=content)
        release(source, drop_file(source, "a.npy"))

    assert names(tmp_path / "done") == {"a.npy": b"one", "a.1.npy": b"two", "a.2.npy": b"three"}


def test_the_same_content_of_the_same_name_is_kept_once(tmp_path) -> None:
    source = make_source(tmp_path)
    for _ in range(2):
        dropped(source)
        release(source, drop_file(source, "a.npy"))

    assert names(tmp_path / "done") == {"a.npy": b"rows"}
    assert names(source.drop) == {}


@pytest.mark.parametrize("after", [{"move": "done"}, "delete"])
def test_a_file_that_was_replaced_since_it_was_read_is_not_touched(tmp_path, after) -> None:
    if isinstance(after, dict):
        after = {"move": str(tmp_path / "done")}
    source = make_source(tmp_path, after=after)
    dropped(source)
    file = drop_file(source, "a.npy")
    dropped(source, ".new", b"other rows")
    (source.drop / ".new").rename(source.drop / "a.npy")

    release(source, file)
    quarantine(source, file, "{}")

    assert names(source.drop) == {"a.npy": b"other rows"}
    assert not source.quarantine.exists()


def test_the_marker_goes_with_its_file(tmp_path) -> None:
    source = make_source(tmp_path, settle="marker:.ready")
    dropped(source)
    dropped(source, "a.npy.ready", b"")
    file = drop_file(source, "a.npy")

    release(source, file)
    release(source, file)

    assert names(source.drop) == {}


def test_the_marker_of_a_file_that_came_since_stays(tmp_path) -> None:
    source = make_source(tmp_path, settle="marker:.ready")
    dropped(source)
    file = drop_file(source, "a.npy")
    (source.drop / "a.npy").rename(tmp_path / "elsewhere")
    dropped(source, "a.npy", b"new rows")
    dropped(source, "a.npy.ready", b"")

    release(source, file)

    assert names(source.drop) == {"a.npy": b"new rows", "a.npy.ready": b""}


def test_a_marker_stays_where_files_are_kept(tmp_path) -> None:
    source = make_source(tmp_path, settle="marker:.ready", after="keep")
    dropped(source)
    dropped(source, "a.npy.ready", b"")

    release(source, drop_file(source, "a.npy"))

    assert set(names(source.drop)) == {"a.npy", "a.npy.ready"}


def test_a_bad_file_lies_beside_its_reason(tmp_path) -> None:
    source = make_source(tmp_path)
    dropped(source, "a\nb.npy")
    file = drop_file(source, "a\nb.npy")
    reason = reason_json(file, BadFile("two rows", "one row", "Save it again"))

    quarantine(source, file, reason)
    quarantine(source, file, reason)

    found = names(source.quarantine)
    assert set(found) == {"a\nb.npy", "a\nb.npy.reason.json"}
    told = json.loads(found["a\nb.npy.reason.json"])
    assert told.pop("at").endswith("Z")
    assert told == {
        "file": "a\\nb.npy",
        "source": "s",
        "expected": "two rows",
        "found": "one row",
        "do": "Save it again",
    }


def test_a_crash_between_reason_and_move_is_mended_by_doing_it_again(tmp_path, monkeypatch) -> None:
    source = make_source(tmp_path)
    dropped(source)
    file = drop_file(source, "a.npy")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupt)
        quarantine(source, file, "{}")
    assert quarantined(source) == []
    quarantine(source, file, "{}")

    assert set(names(source.quarantine)) == {"a.npy", "a.npy.reason.json"}
    assert quarantined(source) == [source.quarantine / "a.npy"]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_two_bad_files_of_one_name_both_lie_there_with_their_reasons(tmp_path) -> None:
    source = make_source(tmp_path)
    for content in (b"one", b"two"):
        dropped(source, content=content)
        quarantine(source, drop_file(source, "a.npy"), content.decode())

    found = names(source.quarantine)
    assert found["a.npy"] == b"one"
    assert found["a.1.npy"] == b"two"
    assert found["a.1.npy.reason.json"] == b"two\n"


@pytest.mark.parametrize("length", [245, 255])
def test_a_bad_file_with_the_longest_name_can_be_quarantined_and_put_back(
    tmp_path, length: int
) -> None:
    source = make_source(tmp_path)
    name = "x" * (length - 4) + ".npy"
    dropped(source, name)

    quarantine(source, drop_file(source, name), "{}")

    (there,) = quarantined(source)
    assert name.startswith(there.stem)
    assert there.suffix == ".npy"
    assert put_back(source, there, None)
    assert names(source.drop) == {there.name: b"rows"}
    assert names(source.quarantine) == {}


def test_a_directory_can_be_quarantined(tmp_path) -> None:
    source = make_source(tmp_path)
    (source.drop / "a.npy").mkdir()
    dropped(source, "a.npy/inside", b"x")

    quarantine(source, drop_file(source, "a.npy"), "{}")

    assert names(source.quarantine)["a.npy/inside"] == b"x"


def test_a_link_is_quarantined_itself_and_what_it_points_to_stays(tmp_path) -> None:
    source = make_source(tmp_path)
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (source.drop / "a.npy").symlink_to(outside)

    quarantine(source, drop_file(source, "a.npy"), "{}")

    assert (source.quarantine / "a.npy").readlink() == outside
    assert outside.read_bytes() == b"secret"


def test_a_file_that_is_put_back_is_new_to_the_ledger(tmp_path) -> None:
    source = make_source(tmp_path, recursive=True)
    dropped(source, "sub/a.npy")
    file = drop_file(source, "sub/a.npy")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.settle([Settled(1, file, State.QUARANTINED, "{}")])
    quarantine(source, file, "{}")

    assert put_back(source, source.quarantine / "sub/a.npy", ledger)

    assert names(source.drop) == {"sub/a.npy": b"rows"}
    assert names(source.quarantine) == {}
    assert ledger.known(file) is State.NEW
    ledger.close()


def test_a_file_is_not_put_back_over_another(tmp_path) -> None:
    source = make_source(tmp_path)
    dropped(source, content=b"bad")
    quarantine(source, drop_file(source, "a.npy"), "{}")
    dropped(source, content=b"next")

    assert not put_back(source, source.quarantine / "a.npy", None)

    assert names(source.drop) == {"a.npy": b"next"}
    assert set(names(source.quarantine)) == {"a.npy", "a.npy.reason.json"}


@pytest.fixture
def elsewhere(tmp_path) -> Iterator[Path]:
    """A directory on another file system than ``tmp_path``."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to")
    directory = Path(tempfile.mkdtemp(dir=shm))
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", ["a.npy", "ü" * 125 + ".npy"])
def test_a_file_is_moved_to_another_file_system_whole(tmp_path, elsewhere, name: str) -> None:
    source = make_source(tmp_path, after={"move": str(elsewhere / "done")})
    dropped(source, name)
    os.utime(source.drop / name, ns=(1, 2))

    release(source, drop_file(source, name))

    assert names(elsewhere / "done") == {name: b"rows"}
    assert (elsewhere / "done" / name).stat().st_mtime_ns == 2
    assert names(source.drop) == {}


def test_a_crash_while_it_is_copied_is_mended_by_doing_it_again(
    tmp_path, elsewhere, monkeypatch
) -> None:
    source = make_source(tmp_path, after={"move": str(elsewhere)})
    dropped(source)
    file = drop_file(source, "a.npy")
    for step in ("fsync", "unlink"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os if step == "fsync" else Path, step, interrupt)
            release(source, file)
        assert names(source.drop) == {"a.npy": b"rows"}

    release(source, file)

    assert names(elsewhere) == {"a.npy": b"rows"}
    assert names(source.drop) == {}


def test_a_directory_and_a_link_go_to_another_file_system_too(tmp_path, elsewhere) -> None:
    source = make_source(tmp_path, quarantine=str(elsewhere))
    dropped(source, "d.npy/inside", b"x")
    (source.drop / "l.npy").symlink_to("nowhere")

    for name in ("d.npy", "l.npy"):
        quarantine(source, drop_file(source, name), "{}")

    assert (elsewhere / "l.npy").readlink() == Path("nowhere")
    assert names(elsewhere)["d.npy/inside"] == b"x"
    assert list(source.drop.iterdir()) == []


def test_a_special_file_stays_where_it_is_and_says_why(tmp_path, elsewhere) -> None:
    source = make_source(tmp_path, quarantine=str(elsewhere))
    os.mkfifo(source.drop / "f.npy")

    with pytest.raises(OSError, match="special file") as failed:
        quarantine(source, drop_file(source, "f.npy"), "{}")

    assert failed.value.errno == errno.EXDEV
    assert (source.drop / "f.npy").exists()
