"""Trains a network with three hidden layers (10, 20, 10) from the file, and prints its accuracy."""

import h5py
import torch
from torch import nn

with h5py.File("data/iris.h5", "r", swmr=True) as file:
    X_train, y_train, X_test, y_test = (
        torch.from_numpy(file[name][:]) for name in ("X_train", "y_train", "X_test", "y_test")
    )

torch.manual_seed(0)
mean, deviation = X_train.mean(0), X_train.std(0)
network = nn.Sequential(
    nn.Linear(4, 10), nn.ReLU(),
    nn.Linear(10, 20), nn.ReLU(),
    nn.Linear(20, 10), nn.ReLU(),
    nn.Linear(10, 3),
)  # fmt: skip
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)

for _ in range(200):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(network((X_train - mean) / deviation), y_train)
    loss.backward()
    optimizer.step()

guessed = network((X_test - mean) / deviation).argmax(1)
right = (guessed == y_test).float().mean().item()
print(f"trained on {len(X_train)} flowers; accuracy on {len(X_test)} others: {right:.3f}")
