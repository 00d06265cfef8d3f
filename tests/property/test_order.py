"""Whatever arrives in whatever order, the rows stand in the source's order, each once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
from flows import make_config, rows_of, take_all
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.layout import records_path

LONG = 200_000  # rows of a file that is more than one slab

FILES = st.dictionaries(
    st.from_regex(r"[a-c]?[0-9]{1,3}\.npy", fullmatch=True),
    st.one_of(st.integers(0, 50), st.just(LONG)),
    min_size=1,
    max_size=12,
)


def write(path: Path, first: int, rows: int) -> None:
    np.save(path, np.arange(first, first + rows))


@settings(max_examples=15, deadline=None)
@given(
    sizes=FILES,
    seed=st.randoms(use_true_random=False),
    workers=st.integers(1, 4),
    chunk_rows=st.sampled_from(["auto", 1000]),
)
def test_rows_stand_in_the_order_of_names(sizes, seed, workers, chunk_rows) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        config = make_config(
            root,
            more={"workers": workers, "memory": "8MiB"},
            order="name",
            duplicates="append",
            datasets={"/data": {"chunk_rows": chunk_rows}},
        )
        numbers = {name: 1_000_000 * i for i, name in enumerate(sizes)}
        arriving = list(sizes)
        seed.shuffle(arriving)
        for name in arriving:
            write(root / "drop" / name, numbers[name], sizes[name])

        progress = take_all(config)

        in_order = sorted(sizes)
        expected = [np.arange(numbers[n], numbers[n] + sizes[n]) for n in in_order]
        assert np.array_equal(rows_of(root / "out.h5"), np.concatenate(expected))
        records = rows_of(root / "out.h5", records_path("/data"))
        assert [r["name"].decode() for r in records] == in_order
        assert records["rows"].tolist() == [sizes[n] for n in in_order]
        assert progress.files == len(sizes)
        assert sorted(p.name for p in (root / "done").iterdir()) == in_order


@settings(max_examples=10, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=15, unique=True),
    bad=st.sets(st.integers(0, 14)),
)
def test_files_that_are_bad_leave_no_gap_and_no_disorder(numbers, bad) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        config = make_config(root, match="f{seq:d}.npy", order="{seq}")
        for at, number in enumerate(numbers):
            path = root / "drop" / f"f{number}.npy"
            if at in bad:
                path.mkdir()
            else:
                write(path, number, 3)
        with mock.patch("ingestd.pipeline.decode.GRACE_SECONDS", 0.0):
            progress = take_all(config)

        good = sorted(n for at, n in enumerate(numbers) if at not in bad)
        assert progress.quarantined == len(numbers) - len(good)
        assert len(list((root / "failed").glob("*.json"))) == progress.quarantined
        if good:
            expected = np.concatenate([np.arange(n, n + 3) for n in good])
            assert np.array_equal(rows_of(root / "out.h5"), expected)
        else:
            assert not (root / "out.h5").exists()


@settings(max_examples=8, deadline=None)
@given(rounds=st.lists(st.lists(st.integers(1, 20), max_size=4), min_size=1, max_size=3))
def test_several_passes_append_to_what_is_there(rounds) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        config = make_config(root, order="name", duplicates="append", datasets={"/x/y": {}})
        expected: list[np.ndarray] = []
        for number, sizes in enumerate(rounds):
            for at, rows in enumerate(sizes):
                write(root / "drop" / f"{at}.npy", 1000 * number + 100 * at, rows)
                expected.append(np.arange(rows) + 1000 * number + 100 * at)
            take_all(config)

        if expected:
            assert np.array_equal(rows_of(root / "out.h5", "/x/y"), np.concatenate(expected))


def test_members_of_a_file_stay_in_lockstep(tmp_path) -> None:
    config = make_config(
        tmp_path,
        order="name",
        datasets={"/frames": {}, "/entry/time": {"member": "t"}, "/sum": {"stack": True}},
    )
    for number in range(5):
        np.savez(
            tmp_path / "drop" / f"{number}.npz",
            frames=np.full((number, 2), number),
            t=np.full(number + 1, float(number)),
            sum=np.full(3, number),
        )

    take_all(config)

    with h5py.File(tmp_path / "out.h5", "r") as file:
        assert file["frames"][:, 0].tolist() == [n for n in range(5) for _ in range(n)]
        assert file["entry/time"][:].tolist() == [n for n in range(5) for _ in range(n + 1)]
        assert file["sum"][:, 0].tolist() == [*range(5)]
        ids = [
            file[records_path(d)]["file_id"].tolist() for d in ("/frames", "/entry/time", "/sum")
        ]
    assert ids[0] == ids[1] == ids[2]
