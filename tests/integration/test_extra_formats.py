"""A file of each format of the extras, dropped: its rows are in the output as they were."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from contract.extra_cases import EXTRA_CASES
from contract.format_cases import Case
from station import names, once

SUFFIXES = {
    "tiff": "tif",
    "image": "png",
    "fits": "fits",
    "parquet": "parquet",
    "zarr": "zarr.zip",
}


def is_rows(array: np.ndarray) -> bool:
    """Whether an HDF5 dataset can grow by it; times, which need a unit, are tested elsewhere."""
    kinds = {dtype.kind for dtype, *_ in (array.dtype.fields or {"": (array.dtype,)}).values()}
    return array.ndim > 0 and array.size > 0 and "M" not in kinds


@pytest.mark.parametrize("format_name", SUFFIXES)
def test_dropped_files_become_their_rows(format_name: str, tmp_path: Path) -> None:
    cases = [Case(**case) for case in EXTRA_CASES if case["format"] == format_name]
    if cases[0].missing:
        pytest.skip(cases[0].missing)
    cases = [case for case in cases if any(map(is_rows, case.arrays.values()))]
    wanted, sources = {}, {}
    for number, case in enumerate(cases):
        member, array = next((name, a) for name, a in case.arrays.items() if is_rows(a))
        (tmp_path / f"drop/{number}").mkdir(parents=True)
        path = tmp_path / f"drop/{number}/a.{SUFFIXES[format_name]}"
        path.write_bytes(case.bytes())
        wanted[f"{number}.h5"] = array
        sources[f"s{number}"] = {
            "drop": f"drop/{number}",
            "output": f"{number}.h5",
            "settle": "renamed",
            "format": format_name,
            "options": {} if format_name == "parquet" else {"ratio_max": 500},
            "datasets": {"/data": {"member": member}},
        }

    once(tmp_path, json.dumps({"sources": sources}))

    assert not [name for n in range(len(cases)) for name in names(tmp_path / f"failed/s{n}")]
    for output, array in wanted.items():
        with h5py.File(tmp_path / output) as file:
            np.testing.assert_array_equal(file["data"][()], array)
