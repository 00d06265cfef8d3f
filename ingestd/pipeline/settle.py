"""Is a drop file settled: has its writer finished? Better late than half a file."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from ingestd.config import Settle
from ingestd.pipeline.hands import lease

GRACE_SECONDS = 2.0
"""A failure is believed only of a file that has not changed for so long.

``np.savetxt`` closes an empty file before it writes, ``np.open_memmap`` one that has only
its header: for a moment these look settled and broken.
"""

POLL_SECONDS = 0.05
"""How soon to look again at a file that a writer has open."""

SKEW_SECONDS_MAX = 3600.0
"""How far ahead a file server's clock may be."""

_UNOWNED_QUIET_SECONDS = 1.0


def wait_seconds(settle: Settle, path: str, stat: os.stat_result) -> float | None:
    """What a directory listing tells: 0 = may be settled, else how long to wait; None: no idea."""
    if settle.kind == "quiet":
        return max(0.0, settle.seconds - age_seconds(stat))
    if settle.kind == "marker" and not os.path.lexists(f"{path}{settle.suffix}"):
        return None
    return 0.0


def open_wait_seconds(settle: Settle, fd: int) -> float:
    """What the open file tells: 0 = settled, else how long to wait before looking again."""
    if settle.kind != "closed":
        return 0.0
    try:
        lease(fd)
        # Given back at once: a kept lease would hold up the next writer.
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return 0.0
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return POLL_SECONDS
    # Not our file, or a file system without leases: then silence has to do.
    return max(0.0, _UNOWNED_QUIET_SECONDS - age_seconds(os.fstat(fd)))


def age_seconds(stat: os.stat_result) -> float:
    """Seconds since the file last changed, by name or content.

    A time a little ahead is a file server's clock: just now. One far ahead tells nothing: old.
    """
    age = time.time() - max(stat.st_mtime, stat.st_ctime)
    return max(0.0, age) if age > -SKEW_SECONDS_MAX else float("inf")
