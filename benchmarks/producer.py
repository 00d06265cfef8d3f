"""Someone who drops files at a rate: ``STAGED DROP FIRST LAST RATE RESULT``; rate 0: at once.

Each file is renamed in, and the time just before that is saved.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

_PAUSE_SECONDS = 0.0005


def main() -> None:
    """Drop what is due, sleep a little, and so on."""
    staged, drop, *numbers, result = sys.argv[1:]
    first, last, rate = int(numbers[0]), int(numbers[1]), float(numbers[2])
    print("ready", flush=True)
    sys.stdin.readline()
    dropped = np.zeros(last - first, np.int64)
    started = time.monotonic()
    number = first
    while number < last:
        due = first + int((time.monotonic() - started) * rate) + 1 if rate else last
        for now in range(number, min(due, last)):
            dropped[now - first] = time.monotonic_ns()
            os.rename(f"{staged}/{now:07d}.npy", f"{drop}/{now:07d}.npy")  # noqa: PTH104
        number = max(number, min(due, last))
        time.sleep(_PAUSE_SECONDS)
    np.save(result, dropped)
    print("done", flush=True)


if __name__ == "__main__":
    main()
