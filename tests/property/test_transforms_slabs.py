"""Slab by slab gives what the whole file gives, for each ready-made transform that takes slabs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ingestd import transforms

CASES: list[tuple[str, dict[str, Any]]] = [
    ("cast", {"dtype": "int8", "overflow": "clip"}),
    ("cast", {"dtype": "float16", "overflow": "clip"}),
    ("scale", {"factor": 0.25, "offset": -3}),
    ("crop", {"y": [1, None], "x": [0, -1]}),
    ("bin", {"y": 2, "x": 3, "edges": "cut"}),
    ("flip", {"along": "x"}),
    ("transpose", {}),
    ("select", {"columns": [1, 0]}),
    ("patches", {"size": [2, 3], "stride": 1}),
    ("keep", {"members": "data"}),
]

DTYPES = st.sampled_from(["u1", "<u2", ">i4", "<i8", "<f4"])
ROWS = st.tuples(st.integers(0, 6), st.integers(2, 5), st.integers(3, 6))
FRAMES = st.tuples(DTYPES, ROWS).flatmap(
    lambda kind: npst.arrays(
        *kind, elements={"min_value": 0, "max_value": 1 << 30} if kind[0] == "<f4" else None
    )
)


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=[name for name, _ in CASES])
@given(array=FRAMES, data=st.data())
def test_slab_by_slab_gives_what_the_whole_gives(
    name: str, parameters: dict[str, Any], array: np.ndarray, data: st.DataObject
) -> None:
    function = getattr(transforms, name)
    cuts = sorted(data.draw(st.lists(st.integers(1, 6), max_size=3)))
    # Values that a bin of 64 bits could not hold are refused, in either way.
    array = array >> 8 if name == "bin" and array.dtype.kind in "iu" else array

    whole = function({"data": array}, {}, **parameters)["data"]
    slabs = [
        function({"data": slab}, {}, **parameters)["data"]
        for slab in np.array_split(array, cuts)
        if len(slab)
    ]

    assert {slab.dtype for slab in slabs} <= {whole.dtype}
    joined = np.concatenate(slabs) if slabs else whole[:0]
    assert np.array_equal(joined, whole, equal_nan=whole.dtype.kind == "f")


@given(array=FRAMES)
def test_bins_hold_the_sum_of_what_they_bin(array: np.ndarray) -> None:
    array = array[:, :2, :3].astype("<i4")

    (made,) = transforms.bin({"data": array}, {}, y=2, x=3).values()

    assert made.reshape(-1).tolist() == [int(a.astype(object).sum()) for a in array]
