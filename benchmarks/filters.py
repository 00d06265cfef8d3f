"""Datasets by hand with the very chunks and filters of a given one."""

from __future__ import annotations

import h5py
import hdf5plugin

_BITSHUFFLE_OWN = 3  # values that it puts before those it was given


def created_like(dataset: h5py.Dataset) -> h5py.h5p.PropDCID:
    """Properties for a new dataset. A plain copy would not do: bitshuffle would not compress."""
    made = dataset.id.get_create_plist().copy()
    if found := made.get_filter_by_id(hdf5plugin.BSHUF_ID):
        flags, values = found[:2]
        made.remove_filter(hdf5plugin.BSHUF_ID)
        made.set_filter(hdf5plugin.BSHUF_ID, flags, values[_BITSHUFFLE_OWN:])
    return made
