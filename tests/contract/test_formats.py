"""What every format keeps: right rows, bounded slabs, and a refusal of anything else."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.format_cases import CASES, Case, joined, npy_header, open_bytes, open_file, zipped

from ingestd.errors import BadFile
from ingestd.formats.registry import FORMATS, choose, missing, suffixes

SLABS = [1, 24, 100, 1000, 1 << 20]


def marked(cases: list[Case]) -> list[Any]:
    """The cases by their names; those whose libraries are missing are skipped."""
    return [
        pytest.param(
            case, id=case.name, marks=pytest.mark.skipif(bool(case.missing), reason=case.missing)
        )
        for case in cases
    ]


each_case = pytest.mark.parametrize("case", marked(CASES))
each_format = pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"raw"}))  # any file is raw


@each_case
@pytest.mark.parametrize("slab_bytes", SLABS)
def test_the_slabs_joined_are_the_array(case: Case, slab_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "drop"
    path.write_bytes(case.bytes())

    with path.open("rb", buffering=0) as file:
        opened = open_file(case.format, file, **case.options)
        found = {name: joined(opened, name, slab_bytes) for name in case.arrays}

    for name, array in case.arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@each_case
def test_members_say_what_comes(case: Case) -> None:
    members = open_bytes(case.format, case.bytes(), **case.options).members

    assert members.keys() == case.arrays.keys() or case.name == "csv no rows"
    for name, array in case.arrays.items():
        assert members[name].dtype == array.dtype
        assert members[name].shape[1:] == array.shape[1:]
        assert members[name].shape[:1] in ((None,), array.shape[:1])


@each_case
@pytest.mark.parametrize("slab_bytes", SLABS)
def test_each_slab_is_bounded_fresh_and_contiguous(case: Case, slab_bytes: int) -> None:
    opened = open_bytes(case.format, case.bytes(), **case.options)

    for name in case.arrays:
        slabs = list(opened.slabs(name, slab_bytes))
        for slab in slabs:
            assert slab.flags.c_contiguous and slab.flags.writeable
            assert slab.ndim == 0 or len(slab) > 0
            assert slab.nbytes <= slab_bytes or slab.ndim == 0 or len(slab) == 1
        for one, other in pairwise(slabs):
            assert not np.shares_memory(one, other)


@each_case
def test_a_member_can_be_read_again_while_it_is_read(case: Case) -> None:
    opened = open_bytes(case.format, case.bytes(), **case.options)

    for name, array in case.arrays.items():
        first = opened.slabs(name, 24)
        next(first, None)
        assert joined(opened, name, 24).tobytes() == array.tobytes()
        assert sum(len(slab) for slab in first if slab.ndim) <= array.size


@each_case
def test_reads_that_come_short_lose_nothing(case: Case) -> None:
    class Short(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return super().read(-1 if count is None or count < 0 else min(count, 7))

        def readinto(self, target: memoryview) -> int:  # type: ignore[override]
            return super().readinto(target[:7])

    opened = open_file(case.format, Short(case.bytes()), **case.options)

    for name, array in case.arrays.items():
        assert joined(opened, name, 1000).tobytes() == array.tobytes()


@each_case
def test_a_file_cut_anywhere_is_refused_or_gives_a_prefix_at_a_line_end(case: Case) -> None:
    data = case.bytes()
    cuts = sorted(
        {
            *range(0, len(data), max(1, len(data) // 150)),
            *range(1, min(30, len(data))),
            len(data) - 1,
        }
    )

    for cut in cuts:
        try:
            opened = open_bytes(case.format, data[:cut], **case.options)
            found = {name: joined(opened, name, 100) for name in case.arrays}
        except BadFile:
            continue
        whole = cut >= len(data) - case.padding_bytes
        assert whole or (case.cut_at_line_end_is_a_file and data[:cut].endswith(b"\n")), cut
        assert not whole or all(len(found[name]) == len(case.arrays[name]) for name in found)
        for name, array in case.arrays.items():
            assert array[: len(found[name])].tobytes() == found[name].tobytes()


@each_case
def test_a_file_cut_while_it_is_read_gives_no_wrong_rows(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "drop"
    path.write_bytes(case.bytes())

    with path.open("rb", buffering=0) as file:
        opened = open_file(case.format, file, **case.options)
        with path.open("r+b") as writer:
            writer.truncate(path.stat().st_size - 3)

        for name, array in case.arrays.items():
            try:
                found = joined(opened, name, 100)
            except BadFile:
                continue
            assert found.tobytes() == array.tobytes()


@each_case
def test_what_the_disk_says_passes_through_unchanged(case: Case) -> None:
    class Failing(io.BytesIO):
        reads_left = 0
        error = OSError(5, "Input/output error")

        def _count(self) -> None:
            self.reads_left -= 1
            if self.reads_left < 0:
                raise self.error

        def read(self, count: int | None = -1) -> bytes:
            self._count()
            return super().read(count)

        def readinto(self, target: memoryview) -> int:  # type: ignore[override]
            self._count()
            return super().readinto(target)

    for reads in range(300):
        file = Failing(case.bytes())
        file.reads_left = reads
        try:
            opened = open_file(case.format, file, **case.options)
            for name in case.arrays:
                joined(opened, name, 1000)
        except OSError as error:
            assert error is file.error
        else:
            return
    pytest.fail("300 reads were not enough")


@each_format
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\x93NUMPY",
        b"PK\x05\x06" + b"\xff" * 18,
        pickle.dumps([1, 2, 3]),
        bytes(range(256)) * 40,
        np.random.default_rng(1).bytes(10_000),
        npy_header("'<f8'", "(1000000, 1000000)") + bytes(100),
        npy_header("'|O'", "(1,)") + pickle.dumps([1]),
        zipped({"a.npy": npy_header("'<f8'", "(1000000, 1000000)") + bytes(100)}),
        zipped({"inner.npz": zipped({"a.npy": b""})}),
        b"PK\x05\x06" + bytes(18),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_not_of_the_format_is_refused_with_a_remedy(name: str, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadFile) as caught:
            opened = open_bytes(name, data)
            for member in opened.members:
                joined(opened, member, 1000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert caught.value.expected and caught.value.found
    assert caught.value.remedy.endswith(".")
    assert peak_bytes < 3 << 20


# Names alone are no sign of a table, and any bytes may be raw.
TELLING = [c for c in CASES if c.name != "csv no rows" and c.format != "raw"]


@pytest.mark.parametrize("case", marked(TELLING))
def test_the_content_alone_tells_the_format(case: Case) -> None:
    head = case.bytes()[:512]

    assert choose("no-suffix", head).name == case.format


@each_format
def test_a_suffix_in_any_case_tells_the_format_whatever_the_content(name: str) -> None:
    if missing(FORMATS[name]):
        pytest.skip(f"not installed: {missing(FORMATS[name])}")
    for suffix in FORMATS[name].suffixes:
        assert suffix in suffixes()
        assert choose(f"run 1{suffix.upper()}", b"PK\x03\x04\x93NUMPY").name == name


def test_a_file_of_no_format_is_refused_with_the_formats_known() -> None:
    with pytest.raises(BadFile, match=r"csv, .*npy, npz, "):
        choose("notes.txt", b"Dear diary,\n")
    with pytest.raises(BadFile, match=r"csv, .*npy, npz, "):
        choose("a.npy", b"", "papyrus")

    assert choose("a.npy", b"", "csv").name == "csv"


SLAB_BYTES = 512 * 1024
# In slabs and bytes, on top of the slab that the reader of them still holds.
MEMORY_TAKEN = {
    "npy": (1, 0),
    "npy fortran": (3, 0),
    "npz": (1, 2 << 20),
    "npz fortran": (3, 2 << 20),
    "csv": (4, 0),
}


def _write_large(name: str, path: Path) -> None:
    """400,000 rows of four small integers, 12.8 MB."""
    array = np.random.default_rng(0).integers(0, 10, (400_000, 4)).astype(np.int64)
    if name == "npy":
        np.save(path, array)
    elif name == "npy fortran":
        np.save(path, np.asfortranarray(array))
    elif name == "npz":
        np.savez_compressed(path, data=array)
    elif name == "npz fortran":
        np.savez(path, data=np.asfortranarray(array))
    else:
        path.write_bytes(b"".join(b"%d,%d,%d,%d\n" % tuple(row) for row in array.tolist()))


@pytest.mark.parametrize("name", MEMORY_TAKEN)
def test_memory_is_bounded_by_the_slab(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"large.{name.split()[0]}"
    _write_large(name, path)

    with path.open("rb", buffering=0) as file:
        opened = open_file(name.split()[0], file)
        iterator = opened.slabs("data", SLAB_BYTES)
        tracemalloc.start()
        try:
            rows = sum(len(slab) for slab in iterator)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert rows == 400_000
    slabs, more_bytes = MEMORY_TAKEN[name]
    assert peak_bytes < (slabs + 1) * SLAB_BYTES + more_bytes + 64 * 1024
