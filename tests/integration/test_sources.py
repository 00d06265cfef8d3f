"""Sources to datasets: what the config draws is what stands in the outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - lets h5py read what it compressed
import numpy as np
import pytest
from helpers import drop, run
from station import Station, configure, names, once, put, recorded_names, rows_of, save, taken


def put_npz(path: Path, **arrays: np.ndarray) -> None:
    def write(hidden: Path) -> None:
        with hidden.open("wb") as file:
            np.savez(file, **arrays)

    drop(path, write)


def test_sources_feed_outputs_of_their_own_or_share_an_output_or_a_dataset(tmp_path: Path) -> None:
    configure(
        tmp_path,
        """
sources:
  one: {drop: drop/one, output: one.h5}
  two: {drop: drop/two, output: deep/er/two.h5, datasets: {/entry/two: {}}}
  three: {drop: drop/three, output: shared.h5, datasets: {/entry/three: {}}}
  four: {drop: drop/four, output: shared.h5, datasets: {/entry/both: {}}}
  five: {drop: drop/five, output: shared.h5, datasets: {/entry/both: {}}}
""",
    )
    sources = ["one", "two", "three", "four", "five"]
    with Station(tmp_path) as station:
        for turn in range(5):
            for number, source in enumerate(sources):
                put(tmp_path / f"drop/{source}/{turn}.npy", 10 * number + turn)
        station.until_empty(*(f"drop/{source}" for source in sources))
        station.stop()

    assert taken(tmp_path / "one.h5") == [0, 1, 2, 3, 4]
    assert taken(tmp_path / "deep/er/two.h5", "/entry/two") == [10, 11, 12, 13, 14]
    assert taken(tmp_path / "shared.h5", "/entry/three") == [20, 21, 22, 23, 24]
    both = taken(tmp_path / "shared.h5", "/entry/both")
    assert [n for n in both if n < 40] == [30, 31, 32, 33, 34]
    assert [n for n in both if n >= 40] == [40, 41, 42, 43, 44]
    assert all(len(names(tmp_path / "done" / source)) == 5 for source in sources)


def test_the_members_of_a_file_are_taken_in_lockstep_or_not_at_all(tmp_path: Path) -> None:
    configure(
        tmp_path,
        "sources: {a: {drop: drop, output: data.h5, datasets: {/x: {}, /deep/y: {member: why}}}}",
    )
    good = {1: 3, 3: 200_000, 5: 1}
    for number in range(1, 6):
        rows = good.get(number, 200_000)
        why = rows_of(number, rows + number)
        put_npz(tmp_path / f"drop/{number}.npz", x=rows_of(number, rows), why=why)
    # The second is bad in its last member's last bytes, the fourth lacks a member.
    content = bytearray((tmp_path / "drop/2.npz").read_bytes())
    content[content.index(b"PK\x01\x02") - 1] ^= 0xFF
    (tmp_path / "drop/2.npz").write_bytes(content)
    put_npz(tmp_path / "drop/4.npz", x=rows_of(4, 5))

    once(tmp_path, code=1)

    output = tmp_path / "data.h5"
    assert sorted(taken(output, "/x")) == [1, 3, 5]
    assert taken(output, "/x") == taken(output, "/deep/y")
    assert recorded_names(output, "/x") == recorded_names(output, "/deep/y")
    with h5py.File(output, "r") as file:
        assert len(file["/x"]) == sum(good.values())
        assert len(file["/deep/y"]) == sum(rows + number for number, rows in good.items())
    assert names(tmp_path / "failed/a")[::2] == ["2.npz", "4.npz"]


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ({}, np.zeros((3, 4, 5), ">u2"), (">u2", (4, 5))),
        ({"dtype": "float64"}, np.ones((3, 4), "f4"), ("<f8", (4,))),
        ({"dtype": "u2", "row_shape": [4]}, np.ones((3, 4), "i8"), None),
        ({"dtype": "i2"}, np.ones((3, 4), "i8"), ("<i2", (4,))),
        ({"dtype": "i2"}, np.full((3, 4), 40_000, "i8"), None),
        ({"dtype": "int64"}, np.ones((3, 4), "f8"), None),
        ({"row_shape": [2, 2]}, np.zeros((3, 2, 2)), ("<f8", (2, 2))),
        ({"row_shape": [2, 2]}, np.zeros((3, 4)), None),
        ({"stack": True}, np.zeros((3, 4), "i2"), ("<i2", (3, 4))),
        ({"stack": True}, np.array(2.5), ("<f8", ())),
        ({}, np.zeros((0, 4)), ("<f8", (4,))),
        (
            {},
            np.zeros(3, [("t", "<i8"), ("v", "<f4", (2,))]),
            ([("t", "<i8"), ("v", "<f4", 2)], ()),
        ),
        ({}, np.array([b"ab", b"c"]), ("S2", ())),
        ({}, np.array([True, False]), ("?", ())),
        ({}, np.array([1j, 2]), ("<c16", ())),
    ],
)
def test_dtype_and_row_shape_are_the_first_files_or_as_declared(
    declared: dict[str, Any], given: np.ndarray, expected: tuple[Any, tuple[int, ...]] | None,
    tmp_path: Path,
) -> None:  # fmt: skip
    configure(
        tmp_path, f"sources: {{a: {{drop: drop, output: data.h5, datasets: {{/d: {declared}}}}}}}"
    )
    drop(tmp_path / "drop/a.npy", lambda path: save(path, given))

    once(tmp_path, code=0 if expected else 1)

    if expected is None:
        assert names(tmp_path / "failed/a") == ["a.npy", "a.npy.reason.json"]
        return
    with h5py.File(tmp_path / "data.h5", "r") as file:
        dataset = file["/d"]
        assert (dataset.dtype, dataset.shape[1:]) == (np.dtype(expected[0]), expected[1])
        rows = given[np.newaxis] if "stack" in declared else given
        assert np.array_equal(dataset[:], rows)


def test_a_dataset_that_first_appears_leaves_readers_of_its_neighbours_attached(
    tmp_path: Path,
) -> None:
    configure(
        tmp_path,
        "sources: {a: {drop: drop/a, output: data.h5, datasets: {/a: {}}},"
        " b: {drop: drop/b, output: data.h5, datasets: {/new/b: {}}}}",
    )
    with Station(tmp_path) as station:
        put(tmp_path / "drop/a/1.npy", 1)
        station.until_empty("drop/a")
        with h5py.File(tmp_path / "data.h5", "r", swmr=True) as file:
            first = file["/a"]
            for number in (2, 3):
                put(tmp_path / f"drop/b/{number}.npy", number * 10)
                station.until_empty("drop/b")
                put(tmp_path / f"drop/a/{number}.npy", number)
                station.until_empty("drop/a")
                first.refresh()
                there = first[:]

                assert np.array_equal(
                    there, np.concatenate([rows_of(n) for n in range(1, number + 1)])
                )
        assert taken(tmp_path / "data.h5", "/new/b") == [20, 30]
        station.stop()


KINDS = ["none", "gzip", "gzip:1", "lzf", "lz4", "zstd", "zstd:9", "bitshuffle", "blosc", "blosc2"]


def test_rows_of_every_compression_come_back_and_attributes_stand_where_they_should(
    tmp_path: Path,
) -> None:
    sources = "".join(
        f"  s{i}: {{drop: drop/{i}, output: data.h5, match: '*.npy', attrs: {{/: {{title: all}},"
        f" /entry{i}: {{NX_class: NXentry}}}}, datasets: {{/entry{i}/d:"
        f" {{compression: '{kind}', chunk_rows: 64, attrs: {{units: mm, scale: 2.5}}}}}}}}\n"
        for i, kind in enumerate(KINDS)
    )
    configure(tmp_path, "commit: {every: 50ms}\nsources:\n" + sources)
    with Station(tmp_path) as station:
        for number in range(3):
            for i in range(len(KINDS)):
                put(tmp_path / f"drop/{i}/{number}.npy", number, 100)
            station.until_empty(*(f"drop/{i}" for i in range(len(KINDS))))
        station.stop()

    output = tmp_path / "data.h5"
    with h5py.File(output, "r", swmr=True) as file:
        assert file.attrs["title"] == "all"
        for i, kind in enumerate(KINDS):
            dataset = file[f"/entry{i}/d"]
            filters = dataset.id.get_create_plist().get_nfilters()
            assert taken(output, f"/entry{i}/d") == [0, 1, 2]
            assert bool(filters) == (kind != "none"), kind
            assert dict(dataset.attrs) == {"units": "mm", "scale": 2.5}
            assert file[f"/entry{i}"].attrs["NX_class"] == "NXentry"
            assert dataset.chunks == (64, 2)
    run("verify", "data.h5", cwd=tmp_path)


def csv(path: Path) -> None:
    path.write_text("time,a,b\n0,1,2\n1,3,4\n")


@pytest.mark.parametrize(
    ("datasets", "expected"),
    [
        ("{/data: {}}", {"/data": [[0, 1, 2], [1, 3, 4]]}),
        ("{/t: {member: time}, /b: {dtype: int16}}", {"/t": [0, 1], "/b": [2, 4]}),
    ],
)
def test_columns_of_a_table_go_together_or_each_to_its_dataset(
    datasets: str, expected: dict[str, list[Any]], tmp_path: Path
) -> None:
    configure(tmp_path, f"sources: {{a: {{drop: drop, output: data.h5, datasets: {datasets}}}}}")
    drop(tmp_path / "drop/a.csv", csv)

    once(tmp_path)

    with h5py.File(tmp_path / "data.h5", "r") as file:
        assert {name: file[name][:].tolist() for name in expected} == expected


@pytest.mark.parametrize("write", [np.save, np.savez])
def test_stacked_files_are_a_row_each(write: Callable[..., None], tmp_path: Path) -> None:
    configure(
        tmp_path, "sources: {a: {drop: drop, output: data.h5, datasets: {/frames: {stack: true}}}}"
    )
    frames = np.arange(5 * 30 * 40, dtype="u2").reshape(5, 30, 40)
    (tmp_path / "drop").mkdir()
    for number, frame in enumerate(frames):
        write(tmp_path / f"drop/{number}", frame)

    once(tmp_path)

    with h5py.File(tmp_path / "data.h5", "r") as file:
        assert sorted(file["/frames"][:, 0, 0]) == sorted(frames[:, 0, 0])
        assert file["/frames"].shape == frames.shape


@pytest.mark.parametrize("compression", ["gzip", "lzf", "lz4", "zstd", "bitshuffle", "blosc2"])
def test_a_compressed_output_grows_on_after_a_restart(compression: str, tmp_path: Path) -> None:
    text = "sources: {a: {drop: drop, output: o.h5, datasets: {/data: {compression: %s}}}}"
    (tmp_path / "drop").mkdir()
    put(tmp_path / "drop/0.npy", 0, 3000)
    once(tmp_path, text % compression)

    put(tmp_path / "drop/1.npy", 1)
    once(tmp_path)

    assert taken(tmp_path / "o.h5") == [0, 1]


def test_once_does_not_wait_for_a_partial_chunk_nor_for_twins_of_its_files(tmp_path: Path) -> None:
    configure(
        tmp_path,
        "sources:\n  s: {drop: drop/a, output: data.h5,"
        " datasets: {/data: {compression: gzip, chunk_rows: 1000}}}\n",
    )
    for number, values in enumerate([1, 2, 1]):
        put(tmp_path / f"drop/a/{number}.npy", values, 30)

    once(tmp_path)

    assert taken(tmp_path / "data.h5") == [1, 2]
    assert names(tmp_path / "drop/a") == []
