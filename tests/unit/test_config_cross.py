"""Keys that are each right and contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.config import load
from ingestd.errors import ConfigError


def problems(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    try:
        load(path)
    except ConfigError as error:
        return [problem.removeprefix(f"{path}:") for problem in error.problems]
    return []


def two(first: str, second: str) -> str:
    return f"sources:\n  a: {{{first}}}\n  b: {{{second}}}\n"


def one(rest: str) -> str:
    return f"sources:\n  a: {{drop: drop, output: data/a.h5, {rest}}}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (one("order: '{n}'"), "'n' is not captured in match 'auto'; put {n:d} in match"),
        (one("order: '{n}', match: '{n}.npy'"), "'n' is text in match"),
        (one("quarantine: drop"), "2:50: 'drop' is the drop directory of source 'a'"),
        (one("quarantine: ./x/../drop/"), "is the drop directory of source 'a'"),
        (one("after: {move: drop}"), "2:52: 'drop' is the drop directory of source 'a'"),
        (one("recursive: true, quarantine: drop/bad"), "'drop/bad' is inside 'drop'"),
        (one("recursive: true, after: {move: drop/done}"), "'drop/done' is inside 'drop'"),
        (one("quarantine: x, after: {move: x}"), "is also where done files are moved"),
        ("state: drop\n" + one("match: '*'"), "1:8: 'drop' is the drop directory"),
        (
            "sources:\n  a: {drop: drop, output: drop/a.h5, match: '*'}\n",
            "2:27: 'drop/a.h5' is inside the drop directory of source 'a'",
        ),
        ("sources:\n  a: {drop: drop, output: drop}\n", "'drop' is a file, yet 'drop' is a dir"),
        ("sources:\n  a: {drop: x/y, output: x}\n", "'x' is a file, yet 'x/y' is a directory"),
        (one("datasets: {x: {}, x/y: {}}"), "'/x/y' stands below '/x', which is a dataset"),
        (one("datasets: {x: {}}, attrs: {x: {u: m}}"), "'/x' is a dataset; put its attributes"),
        (one("datasets: {x: {}}, attrs: {x/y: {u: m}}"), "'/x/y' stands below '/x'"),
        (one("datasets: {x: {dtype: u1, fill: -1}}"), "fill -1 does not fit dtype uint8"),
        (one("datasets: {x: {dtype: i4, fill: .nan}}"), "fill nan is no value of dtype int32"),
        (one("datasets: {x: {dtype: S2, fill: abc}}"), "fill 'abc' is longer than dtype |S2"),
        (
            "memory: 8MiB\n" + one("datasets: {x: {dtype: f8, row_shape: [2048, 2048]}}"),
            "a row of 33554432 bytes does not fit in memory 8MiB",
        ),
        (
            one("datasets: {x: {dtype: f8, row_shape: [1024, 1024], chunk_rows: 1000}}"),
            "more than HDF5's 4 GiB",
        ),
        (
            one("datasets: {x: {row_shape: [64], chunks: [16, 128]}}"),
            "chunks [16, 128] do not fit rows of shape [64]; write rows, then",
        ),
        (
            one("datasets: {x: {dtype: f4, filters: [scaleoffset]}}"),
            "scaleoffset is exact for integers only, not for float32",
        ),
        (
            two("drop: d, output: a.h5", "drop: ./d, output: b.h5"),
            "sources 'a' and 'b' would both take 'd/x.npy'",
        ),
        (
            two("drop: d, output: a.h5, match: 'r*'", "drop: d, output: b.h5, match: 'r{n:d}.npy'"),
            "would both take 'd/r1.npy'",
        ),
        (
            two("drop: d, output: a.h5, recursive: true", "drop: d/b, output: b.h5"),
            "would both take 'd/b/x.npy'",
        ),
        (
            two("drop: a, output: o.h5", "drop: b, output: x/../o.h5"),
            "is the same file as 'o.h5' of source 'a'; write it the same way",
        ),
        (
            two("drop: a, output: o.h5, quarantine: q", "drop: b, output: o.h5, quarantine: q/b"),
            "'q/b' overlaps with 'q' of source 'a'",
        ),
        (
            two(
                "drop: a, output: o.h5, datasets: {x: {dtype: f4}}",
                "drop: b, output: o.h5, datasets: {/x: {dtype: f8}}",
            ),
            "3:53: dtype is float64 here and float32 in source 'a'",
        ),
        (
            two(
                "drop: a, output: o.h5, datasets: {x: {}}",
                "drop: b, output: o.h5, datasets: {x/y: {}}",
            ),
            "'/x/y' stands below '/x', which another source of 'o.h5' makes a dataset",
        ),
    ],
)
def test_a_contradiction_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    found = problems(text, tmp_path)

    assert len(found) == 1, found
    assert problem in found[0]


@pytest.mark.parametrize(
    "text",
    [
        one("order: '{n}', match: '{n:d}.npy'"),
        one("quarantine: drop/bad, after: {move: drop/done}"),
        "sources:\n  a: {drop: drop, output: drop/a.out}\n",
        one("datasets: {x: {}, xy: {}, y/x: {}}, attrs: {/: {u: m}, y: {u: m}}"),
        one("datasets: {x: {dtype: f4, fill: .nan}, y: {dtype: '?', fill: true}}"),
        two("drop: d, output: o.h5, match: '*.npy'", "drop: d, output: o.h5, match: '*.csv'"),
        two("drop: d, output: a.h5", "drop: d/b, output: b.h5"),
        two("drop: a, output: a.h5, after: {move: b}", "drop: b, output: b.h5"),
        two(
            "drop: a, output: o.h5, datasets: {x: {dtype: f4}}",
            "drop: b, output: o.h5, datasets: {x: {dtype: float32, row_shape: [2]}}",
        ),
        two(
            "drop: a, output: a.h5, datasets: {x: {dtype: f4}}",
            "drop: b, output: b.h5, datasets: {x: {dtype: f8}}",
        ),
    ],
)
def test_what_only_looks_like_a_contradiction_is_taken(text: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == []


def test_a_wrong_key_hides_no_contradiction_of_the_others(tmp_path: Path) -> None:
    found = problems(one("quarantine: drop, typo: 1"), tmp_path)

    assert [problem.split(": ")[0] for problem in found] == ["2:50", "2:56"]


def test_a_wrong_key_is_no_cause_of_contradictions(tmp_path: Path) -> None:
    found = problems(one("match: '{n', order: '{n}'"), tmp_path)

    assert len(found) == 1
    assert "lone '{'" in found[0]
