"""Drops arrays of random float32 into ``drop/``, as an instrument or a simulation would.

The default is what the blog's script appends: 20 arrays of (100, 1000, 1000), 8 GB in all.
"""

import argparse
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--arrays", type=int, default=20)
parser.add_argument("--shape", type=int, nargs=3, default=(100, 1000, 1000))
wanted = parser.parse_args()

Path("drop").mkdir(exist_ok=True)
random = np.random.default_rng(1)
for number in range(wanted.arrays):
    np.save(f"drop/{number:03d}.npy", random.random(wanted.shape, dtype="float32"))
    print(f"dropped {number:03d}.npy")
