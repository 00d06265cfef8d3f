"""Why no rows are made of a dataset of an HDF5 file: what is expected, what it is, what to do.

A refusal costs the dataset only: a file is a bad one if its refused dataset is asked for.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

_FILTERS_OF_PLUGINS = 256
_MATLAB_REFUSED = {
    "char": "text",
    "cell": "a cell array",
    "function_handle": "a function",
    "struct": "a struct",
}

Refusal = tuple[str, str, str]


def of_type(dtype: np.dtype[Any], string_bytes: int | None) -> Refusal | None:
    """Values of no fixed width, unless it is text that is to be taken as ``string_bytes``."""
    if not dtype.hasobject:
        return None
    expected = "values of fixed width, which readers of a growing HDF5 file can read"
    if h5py.check_string_dtype(dtype):
        if string_bytes is not None:
            return None
        return wrong(
            expected,
            "text of variable length",
            "Set 'format: hdf5' and 'options: {string_bytes: N}', N for the longest text in "
            "bytes, or save it as fixed-width text",
        )
    if h5py.check_vlen_dtype(dtype):
        return wrong(
            expected,
            "arrays of variable length",
            "Save them as one array of two axes, filled up, and their lengths as another",
        )
    if h5py.check_ref_dtype(dtype):
        return wrong(expected, "references to other objects", "Leave it out")
    return wrong(
        expected,
        f"{dtype}, in which a field has no fixed width",
        "Save the field with a fixed width (text of N bytes), or leave it out",
    )


def of_matlab_class(dataset: h5py.Dataset) -> Refusal | None:
    """What MATLAB keeps in datasets that is no array of numbers."""
    name = dataset.attrs.get("MATLAB_class", b"")
    name = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
    if name in _MATLAB_REFUSED:
        return of_matlab(_MATLAB_REFUSED[name])
    if dataset.attrs.get("MATLAB_empty", 0):
        return wrong("an array that holds something", "it is empty", "Leave it out")
    if dataset.dtype.hasobject:
        return of_matlab(f"of class {name or 'unknown'}")
    return None


def of_matlab(found: str) -> Refusal:
    """A variable of MATLAB's that is ``found``."""
    return wrong(
        "an array of numbers or logicals",
        found,
        "Save what it holds as arrays of numbers (full() of a sparse one)",
    )


def elsewhere(found: str) -> Refusal:
    """Values that lie in another file."""
    return wrong(
        "values in the file itself (what is read is one file, which is digested)",
        found,
        "Copy the values into it (h5repack, or h5py), or drop the files that hold them",
    )


def wrong(expected: str, found: str, remedy: str) -> Refusal:
    """The lines of a BadFile; ``remedy`` is one sentence, without its full stop."""
    return expected, found, f"{remedy}."


def has_filter(code: int) -> bool:
    """Whether HDF5 can undo the filter, with hdf5plugin's if need be."""
    if not h5py.h5z.filter_avail(code) and code >= _FILTERS_OF_PLUGINS:
        import hdf5plugin  # late: it takes 0.1 s, and says to HDF5 which filters it has

        assert hdf5plugin
    return bool(h5py.h5z.filter_avail(code))
