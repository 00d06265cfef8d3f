"""No bytes whatever make a format raise anything but BadFile, take memory, or work without end."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
from contract.format_cases import CASES, Case, open_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.errors import BadFile
from ingestd.formats.registry import FORMATS

SLAB_BYTES = 4096
MEMORY_BYTES_MAX = 4 << 20
READS_MAX = 20_000
# Arrow has threads of its own, which may still call Python when a read has failed; tracemalloc
# beside them may crash older interpreters (github.com/python/cpython/issues/128679).
# Files of parquet are changed in tests/contract/test_formats_extra.py, untraced.
TRACEABLE = [case for case in CASES if not case.missing and case.format != "parquet"]
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class CountedFile(io.BytesIO):
    """Fails after ``READS_MAX`` reads: the work that a format may do for a small file."""

    reads = 0

    def _count(self) -> None:
        self.reads += 1
        assert self.reads < READS_MAX, "no end of reading"

    def read(self, count: int | None = -1) -> bytes:
        self._count()
        return super().read(count)

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        self._count()
        return super().readinto(target)


def read_all(
    format_name: str, data: bytes, wish: np.dtype | None = None, **options: object
) -> None:
    """Read every member; only BadFile is let off."""
    tracemalloc.start()
    try:
        opened = open_file(format_name, CountedFile(data), **options)
        for member in opened.members:
            for slab in opened.slabs(member, SLAB_BYTES, wish):
                assert slab.nbytes <= SLAB_BYTES or slab.ndim == 0 or len(slab) == 1
    except BadFile as error:
        assert error.expected and error.found and error.remedy
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < MEMORY_BYTES_MAX


@FUZZ
@given(st.sampled_from(sorted(FORMATS.keys() - {"raw"})), st.binary(max_size=2000))
def test_random_bytes_are_refused_or_read(name: str, data: bytes) -> None:
    read_all(name, data)


@FUZZ
@given(st.binary(max_size=512))
def test_sniffing_takes_any_head(head: bytes) -> None:
    for chosen in FORMATS.values():
        assert chosen.sniff(head) in (True, False)


@settings(FUZZ, max_examples=400)
@given(
    st.sampled_from(TRACEABLE),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
    st.floats(0, 1),
)
def test_a_file_with_bytes_changed_is_refused_or_read(
    case: Case, changes: list[tuple[float, int]], at_the_ends: bool, cut: float
) -> None:
    data = bytearray(case.bytes())
    for where, value in changes:
        index = int(where * (len(data) - 1))
        if at_the_ends:  # where the headers and the zip directory are
            index = index % 160 if index % 2 else len(data) - 1 - index % min(160, len(data))
        data[min(index, len(data) - 1)] = value
    if cut > 0.9:
        del data[int(cut * len(data)) :]

    read_all(case.format, bytes(data), **case.options)


SIZES = st.one_of(st.integers(0, 5), st.sampled_from([2**31, 2**62, 2**63, 2**64, -1, 10**30]))
DESCRS = st.one_of(
    st.from_regex(r"[<>|=]?[a-zA-Z?]\d{0,11}(\[[a-z0-9/]{0,6}\])?", fullmatch=True),
    st.recursive(
        st.sampled_from(["<f8", "|O", "|S3", "|V0", "<U0", "<M8[ns]", "f", "", 3, None]),
        lambda inner: st.lists(
            st.one_of(
                st.tuples(st.text(max_size=3), inner),
                st.tuples(st.text(max_size=3), inner, st.lists(SIZES, max_size=2).map(tuple)),
                st.tuples(st.tuples(st.text(max_size=2), st.text(max_size=2)), inner),
                inner,
            ),
            max_size=3,
        ),
        max_leaves=6,
    ),
)
HEADERS = st.fixed_dictionaries(
    {
        "descr": DESCRS,
        "fortran_order": st.one_of(st.booleans(), st.just(1)),
        "shape": st.one_of(st.lists(SIZES, max_size=40).map(tuple), st.just([2])),
    }
)


@settings(FUZZ, max_examples=300)
@given(HEADERS, st.sampled_from([1, 2, 3, 4]), st.binary(max_size=200))
def test_any_numpy_header_is_refused_or_read(
    header: dict[str, object], version: int, data: bytes
) -> None:
    text = repr(header).encode("utf-8", "backslashreplace")
    length = len(text).to_bytes(2 if version == 1 else 4, "little")

    read_all("npy", b"\x93NUMPY" + bytes([version, 0]) + length + text + data)


@FUZZ
@given(st.text(alphabet="()[]{}'\"\\:,-+~1L a\nTrue.if#", max_size=400))
def test_any_text_for_a_numpy_header_is_refused(text: str) -> None:
    data = text.encode()

    read_all("npy", b"\x93NUMPY\x01\x00" + len(data).to_bytes(2, "little") + data)


@settings(FUZZ, max_examples=400)
@given(
    st.text(alphabet="0123456789.eE+-infa,;\t #\n\n\r\"'_jx\x0b\x1f\xa0٣", max_size=120),
    st.sampled_from(["<f8", "<i8", "|u1", "<f4", "<f2", "<c8", "|b1", "|S3", "<M8[s]", "<f16"]),
    st.sampled_from(["auto", ",", "whitespace", "|", " "]),
    st.sampled_from(["#", "", ";"]),
    st.sampled_from(["auto", True, False]),
)
def test_any_text_for_a_table_is_refused_or_read(
    text: str, dtype: str, delimiter: str, comment: str, header: str | bool
) -> None:
    read_all(
        "csv",
        text.encode(),
        np.dtype(dtype),
        delimiter=delimiter,
        comment=comment,
        header=header,
        final_newline="optional",
    )


@FUZZ
@given(
    st.lists(
        st.lists(st.floats(width=64) | st.integers(-(2**70), 2**70), min_size=3, max_size=3),
        min_size=1,
    ),
    st.integers(1, 300),
)
def test_a_table_gives_the_numbers_that_python_reads(
    rows: list[list[float]], slab_bytes: int
) -> None:
    text = "".join(",".join(map(repr, row)) + "\n" for row in rows)

    opened = open_file("csv", io.BytesIO(text.encode()))
    found = np.concatenate(list(opened.slabs("data", slab_bytes)))

    np.testing.assert_array_equal(found, np.array(rows, dtype=float))
