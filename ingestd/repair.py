"""Makes an HDF5 file that a dead writer left behind open again, for readers and the next writer.

It changes bytes of the superblock (and of the note on free space beside it), never of data, after
a copy of them is on disk. It never shrinks a file, never touches one that is being written, and,
when it dies itself, is finished by running it again.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ingestd.diagnosis import CannotRepair, Change, Diagnosis, diagnose, inspect
from ingestd.errors import BusyWorld
from ingestd.writers import refuse_if_written

__all__ = ["CannotRepair", "Change", "Diagnosis", "Repair", "inspect", "opens", "repair"]

OPEN_SECONDS = 60.0
"""How long a file may take to be looked through before it counts as one that does not open."""

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_LOOK_THROUGH = """
import sys, h5py

def look(name, found):
    if isinstance(found, h5py.Dataset) and found.chunks:
        found.id.get_num_chunks()

try:
    with h5py.File(sys.argv[1], "r", locking=False) as file:
        file.visititems(look)
except Exception as error:
    sys.exit(f"HDF5 says: {error}")
"""


@dataclass(frozen=True, slots=True)
class Repair:
    """What ``repair`` did, or would do. ``copy`` holds the changed bytes as they were.

    ``opens``: None if HDF5 opens the file now, else why it does not; not tried by a dry run, or
    without ``look``.
    """

    diagnosis: Diagnosis
    dry_run: bool
    copy: Path | None
    opens: str | None


def repair(
    path: Path, dry_run: bool = False, backup: Path | None = None, look: bool = True
) -> Repair:
    """Mend the file at ``path``, then have another process open it (``look``). Safe to run again
    at any time.

    ``backup`` is where the copy of the changed bytes goes, replacing what is there; without it,
    ``PATH.repair-TIME.json`` beside the file. Readers may stay attached.

    :raises CannotRepair: it is no HDF5 file, or one that this cannot mend; it is as it was.
    :raises BusyWorld: somebody is writing it, or there is no room for the copy.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            doubt = refuse_if_written(fd, path)
            diagnosis = diagnose(fd, path, doubt)
            if dry_run and not diagnosis.healthy:
                return Repair(diagnosis, dry_run, None, None)
            copy = None if diagnosis.healthy else _apply(diagnosis, backup)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise BusyWorld(f"{path}: no room for the copy of what changes: {error}") from error
        raise CannotRepair(
            f"{path}: {error.strerror or error}. Mend that, then repair it again"
        ) from error
    return Repair(diagnosis, dry_run, copy, opens(path) if look else None)


def opens(path: Path, seconds: float = OPEN_SECONDS) -> str | None:
    """None if HDF5 opens the file and finds all of its objects, else why not.

    It is tried in a process of its own, since a broken file can crash HDF5, or hold it for ever.
    """
    command = [sys.executable, "-c", _LOOK_THROUGH, os.fspath(path)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"HDF5 was not through with it after {seconds:g} s"
    if done.returncode < 0:
        number = -done.returncode
        return f"HDF5 crashed with signal {number} ({signal.Signals(number).name})"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return None


def _apply(diagnosis: Diagnosis, backup: Path | None) -> Path:
    copy = _write_copy(diagnosis, backup)
    fd = os.open(diagnosis.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if diagnosis.new_size > diagnosis.size:
            os.ftruncate(fd, diagnosis.new_size)
        for change in diagnosis.changes:
            os.fsync(fd)
            if os.pwrite(fd, change.new, change.offset) != len(change.new):
                raise OSError(errno.EIO, "was written in part", os.fspath(diagnosis.path))
        os.fsync(fd)
    finally:
        os.close(fd)
    return copy


def _write_copy(diagnosis: Diagnosis, backup: Path | None) -> Path:
    path = diagnosis.path
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = backup or path.with_name(f"{path.name}.repair-{time}.json")
    text = json.dumps(
        {
            "file": os.fspath(path.absolute()),
            "time": time,
            "size": diagnosis.size,
            "new_size": diagnosis.new_size,
            "undo": "write each 'old' (hex) at its offset, then cut the file to 'size'",
            "changes": [
                {"offset": c.offset, "old": c.old.hex(), "new": c.new.hex()}
                for c in diagnosis.changes
            ],
        },
        indent=1,
    )
    part = copy.with_name(f"{copy.name}.tmp")
    with part.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(copy)
    directory = os.open(copy.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return copy
