"""The pairs in the file, as training reads them while the daemon appends more."""

import time

import h5py
import numpy as np

RUN = 16  # neighbours that are read together: few seeks, and still many pictures in a batch


def opened(path):
    """The file, once it is there with its first rows."""
    while True:
        try:
            file = h5py.File(path, "r", swmr=True)
            if committed(file):
                return file
            file.close()
        except (OSError, KeyError):
            pass  # the daemon has not made it yet
        time.sleep(0.1)


def committed(file):
    """How many pairs are final: what lies beyond may still be taken back."""
    return min(_committed(file[f"/ingestd/{name}/files"]) for name in ("input", "label"))


def batch(file, size, random):
    """``size`` pairs from all over what is committed by now: (size, 33, 33) and (size, 21, 21)."""
    starts = random.integers(0, committed(file) - RUN, size // RUN, endpoint=True)
    for name in ("input", "label"):
        file[name].refresh()
    return tuple(
        np.concatenate([file[name][start : start + RUN] for start in starts])
        for name in ("input", "label")
    )


def _committed(records):
    records.refresh()
    if not len(records):
        return 0
    last = records[-1]
    return int(last["first_row"] + last["rows"])
