"""Captures in paths, and what the config says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.config import Config, wildcard
from ingestd.config.captures import fill
from ingestd.config.transform import Step, parse_transform
from ingestd.errors import BadFile
from tests.flows import make_source


def config_of(**source: object) -> Config:
    return Config.model_validate({"sources": {"s": {"drop": "drop", "output": "o.h5", **source}}})


def test_captures_are_filled_in_where_they_stand(tmp_path) -> None:
    source = make_source(
        tmp_path,
        match="{name}_run{run:d}.npy",
        output=str(tmp_path / "run{run:04d}.h5"),
        datasets={"/sensors/{name}/{run}": {}},
        attrs={"/sensors/{name}": {"NX_class": "NXsensor"}},
    )

    target = source.target(source.captures("left_run7.npy"))

    assert target.output == tmp_path / "run0007.h5"
    assert list(target.datasets) == ["/sensors/left/7"]
    assert list(target.attrs) == ["/sensors/left"]
    assert not source.fixed


@pytest.mark.parametrize("name", ["..", ".hidden", "a\nb"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ValueError, match="no name to be given"):
        fill("data/{name}/x.h5", {"name": name})


def test_a_dataset_cannot_be_put_among_the_provenance(tmp_path) -> None:
    source = make_source(tmp_path, match="{name}.npy", datasets={"/{name}/x": {}})

    with pytest.raises(BadFile, match="Rename the file"):
        source.target(source.captures("ingestd.npy"))


def test_a_file_whose_name_is_not_matched_has_no_place(tmp_path) -> None:
    source = make_source(tmp_path, match="{name}.npy", datasets={"/{name}": {}})

    with pytest.raises(BadFile, match="nothing captured as 'name'"):
        source.target(source.captures("sample.csv"))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"output": "run{run}.h5"}, "'run' is not captured"),
        ({"output": "run{run:04d}.h5", "match": "{run}.npy"}, "'run' is text"),
        ({"datasets": {"/{x}": {}}}, "'x' is not captured"),
        ({"attrs": {"/{x}": {"a": 1}}}, "'x' is not captured"),
        ({"datasets": {"/a": {"place": "{seq}"}}, "match": "{seq}.npy"}, "'seq' is text"),
        ({"output": "run{run.h5"}, "braces hold the name of a capture"),
        ({"output": "run{run!r}.h5"}, "braces hold the name of a capture"),
        ({"drop": "drop/{run}"}, "only output, datasets and attrs may hold captures"),
        ({"datasets": {"/a": {"place": "seq"}}}, "is no place"),
        ({"transform": "a b"}, "names no function"),
        ({"transform": {"crop": [1]}}, "are no parameters"),
    ],
)
def test_what_match_does_not_capture_is_refused(keys: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        config_of(**keys)


def test_a_pattern_finds_what_an_output_may_become(tmp_path) -> None:
    assert wildcard(Path("data/a[1]_{run:04d}_{name}.h5")) == "data/a[[]1]_*_*.h5"
    assert wildcard(Path("data/a.h5")) is None


def test_steps_are_named_one_or_several_with_parameters_or_without() -> None:
    crop = {"ingestd.transforms:crop": {"y": [0, 4]}}

    assert parse_transform("mine.module:f") == (Step("mine.module", "f"),)
    assert parse_transform({"crop": {"y": [0, 4]}}) == parse_transform(crop)
    assert [str(s) for s in parse_transform(["flip", "m:f"])] == ["ingestd.transforms:flip", "m:f"]
    assert [step.written() for step in parse_transform(crop)] == [crop]
