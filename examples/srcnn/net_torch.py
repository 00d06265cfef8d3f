"""SRCNN (9-1-5) in PyTorch.

What it learns is added to the blurred picture: so it beats bicubic in a minute, not in a day.
"""

import torch
from patches import EDGE
from torch import nn


class Net:
    def __init__(self):
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 9), nn.ReLU(),
            nn.Conv2d(32, 16, 1), nn.ReLU(),
            nn.Conv2d(16, 1, 5),
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.layers.parameters(), lr=1e-3)

    def step(self, inputs, labels):
        """One step of training on (n, 33, 33) and (n, 21, 21); the loss."""
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self._sharpened(inputs), torch.from_numpy(labels)[:, None])
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, pictures):
        """(n, y, x) sharpened: ``EDGE`` smaller on each side."""
        with torch.no_grad():
            return self._sharpened(pictures)[:, 0].numpy()

    def _sharpened(self, pictures):
        pictures = torch.tensor(pictures)[:, None]
        return self.layers(pictures) + pictures[..., EDGE:-EDGE, EDGE:-EDGE]
