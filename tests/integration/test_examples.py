"""The examples do what their READMEs say, small: real daemon, real data, real training."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import ENVIRONMENT, ROOT, run
from station import names

EXAMPLES = ROOT / "examples"


def play(cwd: Path, *words: str, seconds: float = 60) -> str:
    """Run ``python WORDS...`` in ``cwd``; what it prints. No process of it stays behind."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=seconds)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode == 0, printed
    return printed


def skip_without(*modules: str) -> None:
    """Looked for, not imported: that takes seconds, and is up to the example's own processes."""
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def copied(example: str, to: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / example, to / example))


def test_the_blogs_arrays_are_appended_and_ten_rows_read_back(tmp_path: Path) -> None:
    cwd = copied("blog", tmp_path)

    play(cwd, "drop.py", "--arrays", "5", "--shape", "10", "100", "100")
    run("run", "--once", cwd=cwd)
    printed = play(cwd, "read.py")

    assert printed.startswith("(50, 100, 100) float32")
    assert "[0:10] is (10, 100, 100), its mean 0.4997" in printed
    assert names(cwd / "drop") == []


def test_iris_is_learned_from_the_file(tmp_path: Path) -> None:
    skip_without("torch", "sklearn")
    cwd = copied("iris", tmp_path)

    play(cwd, "drop.py")
    run("run", "--once", cwd=cwd)
    printed = play(cwd, "train.py")

    accuracy = re.search(r"trained on 120 flowers; accuracy on 30 others: ([\d.]+)", printed)
    assert accuracy is not None, printed
    assert float(accuracy[1]) > 0.9


@pytest.mark.timeout(150)
@pytest.mark.parametrize("options", [[], ["--keras"]], ids=["torch", "keras"])
def test_srcnn_beats_bicubic_while_its_file_grows(tmp_path: Path, options: list[str]) -> None:
    skip_without("torch", "skimage", *(["keras"] if options else []))
    cwd = copied("srcnn", tmp_path)

    printed = play(cwd, "demo.py", "--every", "0.5", "--steps", "60", *options, seconds=140)

    pairs = [int(count) for count in re.findall(r"step \d+: (\d+) pairs", printed)]
    assert pairs[0] < pairs[-1], printed
    found = re.search(r"bicubic ([\d.]+) dB, SRCNN ([\d.]+) dB", printed)
    assert found is not None, printed
    # It is about 0.3 dB after so few steps.
    assert float(found[2]) > float(found[1]) + 0.1
    assert names(cwd / "failed/pictures") == []


def test_srcnns_pairs_show_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without("PIL")
    monkeypatch.syspath_prepend(str(EXAMPLES / "srcnn"))
    patches = import_module("patches")
    y, x = np.mgrid[:99, :129]
    ramp = (y + x).astype("u1")  # what bicubic leaves as it is, away from the edges

    made = patches.pairs({"data": ramp}, {}, stride=7)

    inputs, labels = made["/input"], made["/label"]
    assert inputs.shape[1:] == (33, 33)
    assert labels.shape == (len(inputs), 21, 21)
    inner = inputs[:, patches.EDGE : -patches.EDGE, patches.EDGE : -patches.EDGE]
    assert np.abs(inner - labels).max() < 0.01
