"""What Python's own modules do not say of files and directories."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """fsync a directory: names made or renamed in it survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def device(path: Path) -> int:
    """The file system on which ``path`` stands, or would be made."""
    return next(p for p in (path, *path.parents) if p.exists()).stat().st_dev
