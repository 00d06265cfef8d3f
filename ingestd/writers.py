"""Is somebody writing this file? For files that must not be touched while they are.

The answer is the kernel's where it gives one (a lease), else what /proc shows, and says which.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

from ingestd.errors import BusyWorld

_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def refuse_if_written(fd: int, path: Path) -> str | None:
    """Make sure that nobody writes the file; ``fd`` is open for reading only.

    Until ``fd`` is closed, a shared lock on it also keeps out writers that lock (HDF5's default).
    Returns None if sure, else the doubt that is left.

    :raises BusyWorld: it is being written.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _written(fd, path) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    try:
        # A lease is broken by a signal, by default one that ends the process: SIGURG does not.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        raise _written(fd, path) from None
    except OSError:  # not the owner, or a file system without leases
        found, everywhere = _writers(fd)
        if found:
            raise _written(fd, path) from None
        return None if everywhere else "could not look at all processes for one that writes it"
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return None


def _written(fd: int, path: Path) -> BusyWorld:
    who = ", ".join(_writers(fd)[0]) or "a process that this user may not see"
    return BusyWorld(
        f"{path}: is being written by {who}; a live file must not be repaired. "
        "Stop the writer, then try again"
    )


def _writers(fd: int) -> tuple[list[str], bool]:
    """Who has the file of ``fd`` open for writing; whether all processes could be looked at."""
    wanted, found, everywhere = os.fstat(fd), [], True
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for link in (process / "fd").iterdir():
                if os.path.samestat(link.stat(), wanted) and _opened_for_writing(process, link):
                    found.append(
                        f"process {process.name} ({(process / 'comm').read_text().strip()})"
                    )
                    break
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended, or closed the file, while we looked
        except PermissionError:
            everywhere = False
    return found, everywhere


def _opened_for_writing(process: Path, link: Path) -> bool:
    lines = (process / "fdinfo" / link.name).read_text().splitlines()
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return flags & os.O_ACCMODE != os.O_RDONLY
