"""Trains from the file while it grows, then tries the network on a picture that it never saw."""

import argparse
import time

import live
import numpy as np
from patches import EDGE, blurred, grey
from skimage import data

BATCH = 64


def psnr(picture, truth):
    """Peak signal to noise in dB; both from 0 to 1."""
    return -10 * np.log10(np.mean((picture - truth) ** 2))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--keras", action="store_true", help="in place of plain PyTorch")
parser.add_argument("--steps", type=int, default=200)
wanted = parser.parse_args()

if wanted.keras:
    from net_keras import Net
else:
    from net_torch import Net

net, random = Net(), np.random.default_rng(0)
with live.opened("data/pairs.h5") as view:
    started = time.monotonic()
    for step in range(1, wanted.steps + 1):
        loss = net.step(*live.batch(view, BATCH, random))
        if step == 1 or step % 20 == 0:
            print(f"step {step}: {live.committed(view)} pairs, loss {loss:.5f}", flush=True)

truth = grey(data.camera())
poor = blurred(truth)
truth = truth[EDGE:-EDGE, EDGE:-EDGE]
bicubic = psnr(poor[EDGE:-EDGE, EDGE:-EDGE], truth)
ours = psnr(net.predict(poor[None])[0].clip(0, 1), truth)
print(f"trained for {time.monotonic() - started:.0f} s")
print(f"held-out picture: bicubic {bicubic:.2f} dB, SRCNN {ours:.2f} dB")
