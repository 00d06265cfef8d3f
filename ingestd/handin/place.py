"""Brings a file into a drop directory: whole under its name, or not at all, power lost or not.

It never replaces another. The daemon never finds it open for writing.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import io
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ingestd.config import Source
from ingestd.disk import sync_directory
from ingestd.errors import IngestdError
from ingestd.model import Fingerprint, shown

_NO_NAMELESS = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
_NO_RANGES = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_AT_ONCE = 1 << 30


def open_original(file: Path) -> io.FileIO:
    """``file`` for reading; a symbolic link is not followed, a named pipe not waited for.

    :raises OSError: it cannot be read.
    """
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    return io.FileIO(fd, "rb")


def bring(file: Path, target: Path, *, link: bool) -> Fingerprint:
    """A copy of ``file`` appears as ``target``; with ``link`` it is the file itself, if it can be.

    Gives what the daemon will know it by. A copy keeps the time of the last change.

    :raises FileExistsError: another file has that name.
    :raises OSError: there is no room, no permission, and so on.
    :raises IngestdError: ``file`` changes meanwhile.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # which would tell of the target itself
        raise NotADirectoryError(
            errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent)
        ) from error
    if link:
        _sync(file)
        known = Fingerprint.of(file.lstat())
        try:
            os.link(file, target, follow_symlinks=False)
            return known
        except FileExistsError:
            raise
        except OSError:
            pass  # another file system, or one without links: whatever it is, a copy tells
    return _copy(file, target)


def remove(file: Path, copy: Path | None) -> None:
    """Remove the original, once its ``copy`` (if there is one) survives a loss of power.

    :raises OSError: it cannot be removed.
    """
    if copy is not None:
        with contextlib.suppress(FileNotFoundError):  # it was taken: what is committed is safe
            _sync(copy)
        sync_directory(copy.parent)
    file.unlink()


def mark(source: Source, target: Path) -> None:
    """Make the marker that a source waits for, if it is one that does."""
    if source.settle.kind == "marker":
        target.with_name(target.name + source.settle.suffix).touch()


def lying(file: Path, target: Path) -> Fingerprint | None:
    """What the daemon will know ``target`` by, if it is ``file`` itself, or was copied from it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        known = Fingerprint.of(target.lstat())
        if is_same(file, target):
            return known
    return None


def lies(target: Path, known: Fingerprint) -> bool:
    """Whether ``target`` is there, and the same as before."""
    try:
        return Fingerprint.of(target.lstat()) == known
    except OSError:
        return False


def is_same(file: Path, target: Path) -> bool:
    """Whether the two are one, or alike in time and content.

    :raises FileNotFoundError: one is not there.
    """
    one, other = file.lstat(), target.lstat()
    if os.path.samestat(one, other):
        return True
    if (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns):
        return False
    filecmp.clear_cache()
    return target.is_file() and filecmp.cmp(file, target, shallow=False)


def is_one_path(file: Path, target: Path) -> bool:
    """Whether both paths lead to one entry of one directory."""
    return file.name == target.name and os.path.realpath(file.parent) == os.path.realpath(
        target.parent
    )


def _copy(file: Path, target: Path) -> Fingerprint:
    with open_original(file) as original:
        before = os.fstat(original.fileno())
        # Whoever may read it may give it away, the daemon above all.
        mode = (before.st_mode & 0o777) | 0o400
        with _part(target.parent, mode) as (fd, name):
            _copy_bytes(original.fileno(), fd)
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
            # A file cut short by a loss of power may still look whole, a table's last line say.
            os.fsync(fd)
            copied, after = os.fstat(fd), os.fstat(original.fileno())
            if Fingerprint.of(before) != Fingerprint.of(after) or copied.st_size != before.st_size:
                raise IngestdError(
                    f"{shown(str(file))}: changed while it was copied, and was not handed in. "
                    "Put it when it is finished"
                )
            _appear(fd, name, target)
        return Fingerprint.of(copied)


@contextlib.contextmanager
def _part(directory: Path, mode: int) -> Iterator[tuple[int, Path | None]]:
    """An empty file open for writing, which no source sees: without a name, or under a hidden one.

    Without a name where the file system can: then nothing is left of it, whatever happens.
    """
    name = None
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
        name = directory / f".put-{os.getpid()}-{secrets.token_hex(4)}.part"
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        yield fd, name
    finally:
        os.close(fd)
        if name is not None:
            name.unlink(missing_ok=True)


def _appear(fd: int, name: Path | None, target: Path) -> None:
    """Give the file its name, as the last thing: nobody has it open for writing any more."""
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.dup2(reading, fd, inheritable=False)
        if name is None:
            # Only linkat follows the link in /proc, and Python calls it where a directory is given.
            os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd, follow_symlinks=True)
        elif os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        else:
            name.rename(target)
    finally:
        os.close(reading)


def _copy_bytes(source: int, target: int) -> None:
    """Within the kernel; where the file system can, the two share blocks until one changes."""
    try:
        while os.copy_file_range(source, target, _AT_ONCE):
            pass
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
        while os.sendfile(target, source, None, _AT_ONCE):
            pass


def _sync(file: Path) -> None:
    with open_original(file) as original:
        os.fsync(original.fileno())
