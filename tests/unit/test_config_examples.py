"""The examples, the schema and the starter: what users copy from is right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ingestd.cli.starter import init
from ingestd.cli.starter import schema as schema_command
from ingestd.config import FORMATS, Config, Dataset, Found, Source, load, schema, starter
from ingestd.errors import IngestdError, UsageError
from ingestd.formats import registry

EXAMPLES = Path(__file__).parents[2] / "config"


def config_of(text: str) -> Config:
    return Config.model_validate(yaml.safe_load(text))


def test_the_minimal_example_loads() -> None:
    config = load(EXAMPLES / "minimal.yaml")

    assert list(config.sources) == ["frames"]


def test_the_full_example_holds_the_defaults() -> None:
    full = load(EXAMPLES / "ingestd.yaml")

    assert full.model_dump() == load(EXAMPLES / "minimal.yaml").model_dump()


def test_a_config_written_out_is_the_same_config_again() -> None:
    config = load(EXAMPLES / "ingestd.yaml")

    again = Config.model_validate(json.loads(config.model_dump_json()))

    assert again.model_dump() == config.model_dump()


def test_the_full_example_names_every_option() -> None:
    text = yaml.safe_load((EXAMPLES / "ingestd.yaml").read_text())

    source = text["sources"]["frames"]
    assert set(text) == set(Config.model_fields)
    assert set(source) == set(Source.model_fields) - {"name"}
    assert set(source["datasets"]["/data"]) == set(Dataset.model_fields)


def test_every_option_of_the_full_example_has_a_comment() -> None:
    lines = (EXAMPLES / "ingestd.yaml").read_text().splitlines()

    options = [i for i, line in enumerate(lines) if line.strip() and "#" not in line]
    bare = [lines[i] for i in options if not lines[i - 1].lstrip().startswith("#")]
    assert [line.strip() for line in bare] == ["commit:", "sources:", "/data:"]


def test_the_formats_are_those_that_exist() -> None:
    assert {name: f.suffixes for name, f in registry.FORMATS.items()} == FORMATS


def properties(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        if part.get("additionalProperties") is False:
            yield from part["properties"].items()
        for value in part.values():
            yield from properties(value)
    elif isinstance(part, list):
        for value in part:
            yield from properties(value)


def test_every_key_of_the_schema_is_described() -> None:
    found = dict(properties(schema()))

    assert {"sources", "drop", "dtype", "durability", "move"} <= set(found)
    assert [key for key, value in found.items() if not value.get("description")] == []


def test_the_schema_has_no_key_that_the_config_refuses() -> None:
    found = dict(properties(schema()))

    assert "name" not in found
    assert found["memory"]["default"] == "256MiB"


def test_schema_prints_json() -> None:
    result = CliRunner().invoke(schema_command)

    assert result.exit_code == 0
    assert json.loads(result.stdout) == schema()


def test_the_starter_is_the_minimal_config() -> None:
    assert config_of(starter()) == config_of((EXAMPLES / "minimal.yaml").read_text())


def test_each_option_in_the_starter_s_comments_is_right() -> None:
    text = starter()

    options = text[text.index("# state:") :]
    config = config_of(re.sub(r"(?m)^( *)# ", r"\1", options))
    assert config.sources["frames"].datasets["/data"].attrs == {"units": "counts"}


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=3),
    st.sampled_from(["|u1", ">f4", "float32", None]),
    st.lists(st.text(), max_size=2),
)
def test_a_starter_loads_whatever_the_members_are_called(
    members: list[str], dtype: str | None, left_out: list[str]
) -> None:
    found = [Found(f"/d{i}", dtype, (2, 3), name) for i, name in enumerate(members)]

    text = starter("s", "npz", found, left_out)

    made = config_of(text).sources["s"].datasets
    assert [dataset.member for dataset in made.values()] == members
    assert all(dataset.dtype == dtype for dataset in made.values())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_config_that_loads(here: Path) -> None:
    result = CliRunner().invoke(init, [])

    assert result.exit_code == 0, result.output
    assert "ingestd check" in result.output
    assert list(load(here / "ingestd.yaml").sources) == ["frames"]


def test_init_does_not_overwrite_unasked(here: Path) -> None:
    (here / "ingestd.yaml").write_text("mine\n")

    with pytest.raises(UsageError, match="--force") as caught:
        CliRunner().invoke(init, [], catch_exceptions=False)

    assert caught.value.exit_code == 2
    assert (here / "ingestd.yaml").read_text() == "mine\n"


def test_init_overwrites_when_forced(here: Path) -> None:
    (here / "ingestd.yaml").write_text("mine\n")

    result = CliRunner().invoke(init, ["--force"])

    assert result.exit_code == 0
    assert load(here / "ingestd.yaml").sources


def test_init_prints_to_the_terminal(here: Path) -> None:
    result = CliRunner().invoke(init, ["-o", "-"])

    assert result.stdout == starter()
    assert list(here.iterdir()) == []


def init_from(sample: Path) -> Source:
    CliRunner().invoke(init, ["--from", str(sample), "-o", "c.yaml"], catch_exceptions=False)
    (source,) = load(Path("c.yaml")).sources.values()
    return source


def test_init_takes_dtype_and_shape_from_a_sample(here: Path) -> None:
    np.save(here / "scan_0012.npy", np.zeros((5, 4, 3), ">u2"))

    source = init_from(here / "scan_0012.npy")

    assert (source.name, source.format) == ("scan", "npy")
    assert source.datasets["/data"].numpy_dtype == np.dtype(">u2")
    assert source.datasets["/data"].row_shape == (4, 3)


def test_init_makes_a_dataset_of_each_member(here: Path) -> None:
    arrays = {"a": np.zeros((5, 2)), "a b": np.zeros(5, "i4"), "a_b": np.zeros(5), "ingestd": 1.5}
    np.savez(here / "2024.npz", **arrays)

    source = init_from(here / "2024.npz")

    assert source.name == "frames"
    assert {path: d.member for path, d in source.datasets.items()} == {
        "/a": "a",
        "/a_b": "a b",
        "/a_b_2": "a_b",
        "/ingestd_": "ingestd",
    }
    assert source.datasets["/a_b"].dtype == "int32"
    assert source.datasets["/ingestd_"].stack


def test_init_leaves_out_what_no_dataset_can_hold(here: Path) -> None:
    np.savez(here / "run.npz", x=np.zeros(5), named=np.zeros(2, "U1,i4"))

    source = init_from(here / "run.npz")

    assert list(source.datasets) == ["/x"]
    assert "# left out: named: dtype <U1 is NumPy's unicode" in (here / "c.yaml").read_text()


def test_init_leaves_types_without_a_short_name_to_the_first_file(here: Path) -> None:
    arrays = {"when": np.zeros(2, "M8[ns]"), "raw": np.zeros(2, "V3"), "n": np.zeros(2, "i4,S2")}
    np.savez(here / "run.npz", **arrays)

    source = init_from(here / "run.npz")

    assert {dataset.dtype for dataset in source.datasets.values()} == {None}


def test_init_takes_a_table_as_one_dataset(here: Path) -> None:
    (here / "iris.csv").write_text("a,b\n1,2\n3,4\n")

    source = init_from(here / "iris.csv")

    assert [d.member for d in source.datasets.values()] == ["data"]
    assert source.datasets["/data"].row_shape == (2,)


def test_init_leaves_the_shape_of_very_large_rows_to_the_first_file(here: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (1, 2**26)}
    with (here / "large.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2**29)

    source = init_from(here / "large.npy")

    assert source.datasets["/data"].row_shape is None


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("a.npy", b"rubbish", IngestdError), ("a.xyz", b"?", IngestdError), ("b", None, UsageError)],
)
def test_init_says_why_a_sample_cannot_be_used(
    here: Path, name: str, content: bytes | None, error: type[Exception]
) -> None:
    if content is not None:
        (here / name).write_bytes(content)

    with pytest.raises(error, match=name):
        init_from(here / name)
