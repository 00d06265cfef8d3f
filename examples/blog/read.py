"""Reads the first ten rows back; the daemon may be appending meanwhile."""

import h5py

with h5py.File("data/blog.h5", "r", swmr=True) as file:
    data = file["/data"]
    first = data[0:10]
    print(f"{data.shape} {data.dtype}, chunks of {data.chunks}")
    print(f"[0:10] is {first.shape}, its mean {first.mean():.4f}")
