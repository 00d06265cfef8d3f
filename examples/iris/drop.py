"""Drops Fisher's iris data (150 flowers, as scikit-learn brings them) as one npz of four arrays."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris

iris = load_iris()
order = np.random.default_rng(0).permutation(150)
train, test = order[:120], order[120:]

Path("drop").mkdir(exist_ok=True)
np.savez(
    "drop/iris.npz",
    X_train=iris.data[train],
    y_train=iris.target[train],
    X_test=iris.data[test],
    y_test=iris.target[test],
)
