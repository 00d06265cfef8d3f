"""Drops scikit-image's pictures into ``drop/``, one by one, each in its eight orientations.

The camera man is held out: the network is tried on him.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from skimage import data

NAMES = ("astronaut", "coffee", "chelsea", "coins", "rocket", "brick", "grass", "gravel", "moon")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--every", type=float, default=1.0, help="seconds between two (default: 1)")
wanted = parser.parse_args()

Path("drop").mkdir(exist_ok=True)
for turn in range(8):
    for name in NAMES:
        picture = np.rot90(getattr(data, name)(), turn % 4)
        np.save(f"drop/{name}{turn}.npy", picture[::-1] if turn >= 4 else picture)
        time.sleep(wanted.every)
