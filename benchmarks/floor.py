"""What any ingester of small files pays: each is opened, read and renamed. Plain Python.

``floor.py DROP DONE``: for each directory below DROP, its files go to the one of that name below
DONE. Standard library only, with the thinnest calls there are: no fair floor is slower.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Take every file once."""
    drop, done = sys.argv[1:]
    with os.scandir(drop) as entries:
        feeds = [entry.name for entry in entries]
    for feed in feeds:
        source, target = f"{drop}/{feed}/", f"{done}/{feed}/"
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            fd = os.open(source + name, os.O_RDONLY)
            while os.read(fd, 1 << 20):
                pass
            os.close(fd)
            os.rename(source + name, target + name)  # noqa: PTH104 - Path is slower


if __name__ == "__main__":
    main()
