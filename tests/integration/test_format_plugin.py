"""The worked example of a format plug-in, installed as a user would, and broken ones."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import ENVIRONMENT, run

PLUGIN = Path(__file__).parents[2] / "examples/format-plugin"
CONFIG = """
sources:
  s: {drop: drop, output: out.h5, after: {move: done}, quarantine: failed}
"""


def in_process(site: Path, *words: str, cwd: Path) -> str:
    """Run ``ingestd`` with what is installed in ``site`` too; what it printed."""
    program = "import sys; sys.path.append(sys.argv.pop(1)); from ingestd.cli import main; main()"
    command = (sys.executable, "-c", program, str(site))
    done = run(*words, cwd=cwd, command=command, code=(0, 1))
    return done.stdout + done.stderr


def install_by_hand(site: Path, name: str, points: str) -> None:
    """What an installer leaves of a package that has entry points."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ingestd.formats]\n{points}\n")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A directory with a config, and graymaps waiting."""
    (tmp_path / "ingestd.yaml").write_text(CONFIG)
    (tmp_path / "drop").mkdir()
    for number in range(3):
        pixels = np.full((4, 6), 1000 + number, ">u2")
        (tmp_path / f"drop/{number}.pgm").write_bytes(b"P5\n# x\n6 4\n65535\n" + pixels.tobytes())
    (tmp_path / "drop/cut.pgm").write_bytes(b"P5\n6 4\n65535\n1")
    return tmp_path


def took_them(root: Path) -> bool:
    with h5py.File(root / "out.h5") as file:
        return sorted(file["/data"][:, 0, 0].tolist()) == [1000, 1001, 1002]


def test_the_example_is_found_by_its_entry_point_and_takes_files(world, tmp_path) -> None:
    declared = tomllib.loads((PLUGIN / "pyproject.toml").read_text())
    points = declared["project"]["entry-points"]["ingestd.formats"]
    site = tmp_path / "site"
    install_by_hand(site, "ingestd_pgm", "\n".join(f"{k} = {v}" for k, v in points.items()))
    (site / "ingestd_pgm.py").write_bytes((PLUGIN / "ingestd_pgm.py").read_bytes())

    assert "pgm" in in_process(site, "check", cwd=world)
    in_process(site, "run", "--once", cwd=world)

    assert took_them(world)
    assert (world / "failed/cut.pgm.reason.json").exists()


def test_the_example_installs(world, tmp_path) -> None:
    pytest.importorskip("hatchling", reason="hatchling, which builds it, is not installed")
    site = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "-q")
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    subprocess.run([*pip, *offline, "--target", site, PLUGIN], check=True, env=ENVIRONMENT)

    in_process(site, "run", "--once", cwd=world)

    assert took_them(world)


def test_a_broken_plug_in_is_named_and_stops_nothing(world, tmp_path) -> None:
    np.save(world / "drop/a.npy", np.arange(3))
    site = tmp_path / "site"
    points = ["gone = no_such_module:X", "npy = half:Half", "half = half:Half", "odd = half:Odd"]
    install_by_hand(site, "broken", "\n".join([*points, "script = script:X"]))
    (site / "half.py").write_text("class Half:\n    name = 'half'\ndef Odd():\n    1 / 0\n")
    (site / "script.py").write_text("raise SystemExit(3)\n")

    said = in_process(site, "run", "--once", cwd=world)

    assert "'gone' of no_such_module:X is left out: ModuleNotFoundError" in said
    assert "'npy' of half:Half is left out: ValueError: a built-in format has this name" in said
    assert "'half' of half:Half is left out: TypeError: it has no suffixes" in said
    assert "'script' of script:X is left out: SystemExit: 3" in said
    assert said.count("is left out") == 5
    with h5py.File(world / "out.h5") as file:
        assert file["/data"][:].tolist() == [0, 1, 2]


def test_a_plug_in_that_ends_the_process_costs_the_file(world, tmp_path) -> None:
    np.save(world / "drop/a.npy", np.arange(3))
    site = tmp_path / "site"
    install_by_hand(site, "ending", "pgm = ending:Ending")
    ending = "class Ending(Pgm):\n    def open(self, file, options):\n        raise SystemExit(3)\n"
    (site / "ending.py").write_text(f"{(PLUGIN / 'ingestd_pgm.py').read_text()}\n\n{ending}")

    in_process(site, "run", "--once", cwd=world)

    assert (world / "failed/0.pgm.reason.json").exists()
    with h5py.File(world / "out.h5") as file:
        assert file["/data"][:].tolist() == [0, 1, 2]
