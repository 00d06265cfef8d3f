"""The pairs in the file, as training reads them while the daemon appends more."""

import numpy as np

import ingestd

RUN = 16  # neighbours that are read together: few seeks, and still many pictures in a batch
PAIRS = ("/input", "/label")


def opened(path):
    """The file, once it is there with its first rows."""
    with ingestd.open_tail(path, PAIRS) as tail:
        next(iter(tail))
    return ingestd.open(path)


def committed(view):
    """How many pairs are final by now."""
    return min(len(view[name]) for name in PAIRS)


def batch(view, size, random):
    """``size`` pairs from all over what is committed by now: (size, 33, 33) and (size, 21, 21)."""
    starts = random.integers(0, committed(view) - RUN, size // RUN, endpoint=True)
    return tuple(
        np.concatenate([view[name][start : start + RUN] for start in starts]) for name in PAIRS
    )
