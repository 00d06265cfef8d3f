"""The fate of a drop file that is done with: kept, deleted, moved, or put in quarantine.

A file is only touched while it is the very one that was read, and never overwrites another.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import json
import os
import shutil
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from logging import WARNING
from pathlib import Path

from ingestd.config import Source
from ingestd.disk import sync_directory
from ingestd.errors import BadFile
from ingestd.journal import event
from ingestd.ledger import Ledger
from ingestd.model import DropFile, Fingerprint, shown
from ingestd.pipeline.hands import MANY, Hands

REASON = ".reason.json"

_NAME_BYTES_MAX = 255
_SUFFIX_MAX = 16
_PART = ".part"


def release(source: Source, file: DropFile) -> None:
    """Let a file whose rows are committed (or were there before) leave the drop directory.

    Doing it again after a crash is harmless.

    :raises OSError: it cannot be moved or deleted for now.
    """
    path = source.drop / file.name
    if _is(path, file.fingerprint):
        if source.after.kind == "delete":
            path.unlink()
        elif source.after.directory is not None:
            _move(path, source.after.directory / file.name)
    # Another file that came under the name since has its own marker, which stays.
    gone = source.after.kind != "keep" and not os.path.lexists(path)
    if source.settle.kind == "marker" and gone:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{source.settle.suffix}").unlink()


def quarantine(source: Source, file: DropFile, reason: str) -> None:
    """Put a bad file into quarantine beside ``reason`` (JSON), which is there first.

    :raises OSError: it cannot be moved for now.
    """
    path = source.drop / file.name
    if not _is(path, file.fingerprint):
        return
    target = _free(source.quarantine / file.name, _NAME_BYTES_MAX - len(REASON))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_name(target.name + REASON).write_text(reason + "\n")
    _rename(path, target)


def let_go(
    sources: Mapping[str, Source],
    done: Sequence[tuple[int, DropFile, str]],
    stuck: Collection[DropFile] = (),
    hands: Hands | None = None,
) -> set[int]:
    """Archive files, or quarantine those with a reason; gives the ids of those that could be.

    What cannot be moved now stays unreleased in the ledger and is tried again; of ``stuck`` that
    was said before. With ``hands`` many small files go faster.
    """
    released = set() if hands is None else _move_many(sources, done, hands)
    for file_id, file, reason in done:
        if file_id in released:
            continue
        source = sources[file.source]
        try:
            if reason:
                quarantine(source, file, reason)
            else:
                release(source, file)
            released.add(file_id)
        except OSError as error:
            if file not in stuck:
                why = f"cannot be moved, will try again: {error.strerror}"
                event(WARNING, why, source=file.source, file=file)
    return released


def _move_many(
    sources: Mapping[str, Source], done: Sequence[tuple[int, DropFile, str]], hands: Hands
) -> set[int]:
    """Let ``hands`` have each source's plain cases, if they are many; the ids of what it did."""
    released: set[int] = set()
    for name, group in groupby(done, key=lambda item: item[1].source):
        source, after = sources[name], sources[name].after
        plain = [(i, file) for i, file, reason in group if not reason]
        if len(plain) < MANY or after.kind == "keep" or source.settle.kind == "marker":
            continue
        target = str(after.directory) if after.directory is not None else None
        moved = hands.move(str(source.drop), target, [(f.name, *f.fingerprint) for _, f in plain])
        released.update(i for (i, _), gone in zip(plain, moved, strict=True) if gone)
    return released


def reason_json(file: DropFile, error: BadFile) -> str:
    """What stands in ``NAME.reason.json``."""
    return json.dumps(
        {
            "file": shown(file.name),
            "source": file.source,
            "expected": error.expected,
            "found": error.found,
            "do": error.remedy,
            **({"details": error.details.splitlines()} if error.details else {}),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
        indent=2,
    )


def quarantined(source: Source) -> list[Path]:
    """The files of ``source`` that lie in quarantine, by their reasons."""
    reasons = sorted(source.quarantine.rglob(f"*{REASON}"))
    files = (reason.with_name(reason.name.removesuffix(REASON)) for reason in reasons)
    return [file for file in files if os.path.lexists(file)]


def put_back(source: Source, file: Path, ledger: Ledger | None) -> bool:
    """Move a quarantined file back; False: another of its name waits in the drop directory."""
    name = str(file.relative_to(source.quarantine))
    target = source.drop / name
    if os.path.lexists(target):
        return False
    if ledger is not None:
        # Before the move: a file that the ledger still calls bad would be left lying there.
        ledger.forget_quarantined(source.name, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    _rename(file, target)
    file.with_name(file.name + REASON).unlink()
    return True


def _is(path: Path, fingerprint: Fingerprint) -> bool:
    try:
        return Fingerprint.of(path.lstat()) == fingerprint
    except FileNotFoundError:
        return False


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        # The same content was archived under this name: a second copy tells nothing new.
        filecmp.clear_cache()
        if target.is_file() and filecmp.cmp(path, target, shallow=False):
            path.unlink()
            return
        target = _free(target)
    _rename(path, target)


def _free(target: Path, bytes_max: int = _NAME_BYTES_MAX) -> Path:
    """``target``, or ``stem.1.suffix``, ... if that name is taken; cut to ``bytes_max``."""
    stem, suffix = target.stem, target.suffix
    if len(suffix) > _SUFFIX_MAX:
        stem, suffix = target.name, ""
    for number in itertools.count():
        end = os.fsencode(f".{number}{suffix}" if number else suffix)
        name = os.fsencode(stem)[: bytes_max - len(end)] + end
        free = target.with_name(os.fsdecode(name))
        if not os.path.lexists(free):
            return free
    raise AssertionError("counting does not end")


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(path, target)


def _copy_over(path: Path, target: Path) -> None:
    """Move to another file system: the copy is whole and on disk before the original goes."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            shutil.move(path, target)
            return
        raise OSError(errno.EXDEV, "a special file cannot go to another file system", str(path))
    head = os.fsencode(f".{target.name}")[: _NAME_BYTES_MAX - len(_PART)]
    part = target.with_name(os.fsdecode(head) + _PART)
    shutil.copy2(path, part)
    fd = os.open(part, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    part.rename(target)
    sync_directory(target.parent)
    path.unlink()
