"""A file that the source would not take is refused before anything is copied, and why is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ingestd.config import Config, load
from ingestd.errors import UsageError
from ingestd.handin.offers import offers

TEXT = """
sources:
  hdf: {drop: drop/a, match: 'run[0-9].npy', output: h.h5}
  all: {drop: drop/a, recursive: true, match: '*.npy', output: a.h5}
  npz: {drop: drop/z, format: npz, match: '*', output: z.h5}
  mark: {drop: drop/m, settle: 'marker:.ready', output: m.h5}
  runs: {drop: drop/r, match: 'x{run}.npy', output: 'data/{run}.h5'}
  keep: {drop: drop/k, after: keep, output: k.h5}
"""


@pytest.fixture
def config(tmp_path, monkeypatch) -> Config:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(TEXT)
    for name in ("a.npy", "run7.npy", "a.npy.ready", "b.NPY", ".a.npy", "a.npy.part"):
        with Path(name).open("wb") as file:
            np.save(file, np.arange(3))
    np.savez("a.npz", data=np.arange(3))
    return load(Path("x.yaml"))


def refused(config: Config, source: str | None, *files: str, name: str | None = None) -> str:
    with pytest.raises(UsageError) as error:
        offers(config, source, [Path(file) for file in files], name)
    assert not Path("drop").exists()
    return str(error.value)


def test_a_good_file_goes_by_its_own_name_or_the_one_given(config) -> None:
    (plain,) = offers(config, "hdf", [Path("run7.npy")])
    (named,) = offers(config, "all", [Path("a.npy")], "sub/b.npy")

    assert (plain.name, plain.target) == ("run7.npy", Path("drop/a/run7.npy"))
    assert (named.name, named.target) == ("sub/b.npy", Path("drop/a/sub/b.npy"))


@pytest.mark.parametrize(
    ("source", "file", "name", "why"),
    [
        ("hdf", "a.npy", None, "does not take files of the name 'a.npy' (match: run[0-9].npy"),
        ("mark", ".a.npy", None, "does not take files of the name '.a.npy'"),
        ("mark", "a.npy.part", None, "does not take"),
        ("mark", "a.npy.ready", None, "does not take"),
        ("all", "run7.npy", None, "source 'hdf' would take it, which stands before 'all'"),
        ("hdf", "a.npy", "sub/run7.npy", "set 'recursive: true'"),
        ("all", "a.npy", "../a.npy", "is no name below a drop directory"),
        ("all", "a.npy", "/a.npy", "is no name below a drop directory"),
        ("all", "none.npy", None, "none.npy: there is no such file"),
        ("runs", "a.npy", "x.a.npy", "'{run}.h5' would become '.a.h5'"),
        ("npz", "a.npy", None, "a.npy: would be quarantined: "),
    ],
)
def test_a_file_that_the_source_would_not_take_is_refused(
    source: str, file: str, name: str | None, why: str, config
) -> None:
    assert why in refused(config, source, file, name=name)


def test_only_plain_readable_files_are_taken(config) -> None:
    Path("d.npy").mkdir()
    Path("l.npy").symlink_to("a.npy")
    os.mkfifo("p.npy")
    Path("empty.npy").touch()

    said = refused(config, "all", "d.npy", "l.npy", "p.npy", "empty.npy")

    assert "d.npy: is a directory; give the files in it" in said
    assert "l.npy: is a symbolic link; give the file that it leads to" in said
    assert "p.npy: is no file" in said
    assert "empty.npy: would be quarantined" in said
    assert said.endswith("nothing was handed in")


def test_a_source_has_to_be_named_unless_there_is_only_one(config) -> None:
    assert "no source is called nope; the config has: hdf, all" in refused(config, "nope", "a.npy")
    assert "no source is named" in refused(config, None, "a.npy")

    Path("one.yaml").write_text("sources: {s: {drop: drop/s, output: s.h5}}")
    assert offers(load(Path("one.yaml")), None, [Path("a.npy")])[0].source.name == "s"


def test_two_files_of_one_name_and_one_name_for_two_files_are_refused(config) -> None:
    Path("other").mkdir()
    Path("other/a.npy").write_bytes(Path("a.npy").read_bytes())

    assert "has the name of a.npy" in refused(config, "all", "a.npy", "other/a.npy")
    assert "for 2 files" in refused(config, "all", "a.npy", "run7.npy", name="c.npy")
    assert "no file is given" in refused(config, "all")


def test_a_kept_file_is_not_waited_for(config) -> None:
    Path("drop/k").mkdir(parents=True)
    np.save("drop/k/a.npy", np.zeros(9))

    with pytest.raises(UsageError, match="another file stays at drop/k/a"):
        offers(config, "keep", [Path("a.npy")])
    assert offers(config, "keep", [Path("drop/k/a.npy")])
