"""What lies in a drop directory and is nobody's is named, with what to do."""

from __future__ import annotations

from ingestd.cli.unclaimed import said, unclaimed
from ingestd.config import Config
from tests.flows import make_config


def config_of_two(root) -> Config:
    one = make_config(root, match="a*.npy", settle="marker:.ready")
    first = one.sources["s"]
    second = first.model_copy(update={"name": "t", "match": "b*.csv", "recursive": False})
    return one.model_copy(update={"sources": {"s": first, "t": second}})


def test_files_that_no_source_of_their_directory_takes_are_named(tmp_path) -> None:
    config = config_of_two(tmp_path)
    for name in ("a1.npy", "b1.csv", "c.npy", "x.fits", ".hidden", "a2.npy.part", "a1.npy.ready"):
        (tmp_path / "drop" / name).touch()
    (tmp_path / "drop/folder").mkdir()

    found = unclaimed(config)

    assert found == {str(tmp_path / "drop"): ["c.npy", "folder/", "x.fits"]}


def test_where_all_is_taken_nothing_is_said(tmp_path) -> None:
    config = make_config(tmp_path)
    (tmp_path / "drop/a.npy").touch()

    assert unclaimed(config) == {}


def test_the_line_says_what_to_do() -> None:
    assert said("drop", ["f/"]).endswith("takes: f/. Set 'recursive: true' to read directories")
    assert "zip -r -0" in said("drop", ["a.zarr/"])
    assert "4 files" in said("drop", ["a", "b", "c", "d"])
    assert "a, b, c, ..." in said("drop", ["a", "b", "c", "d"])
    assert "ingestd check --sample" in said("drop", ["a.xyz"])
