"""Each command says what it does, and a failing one says why: in its exit code and its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from flows import drop_file, make_config
from helpers import run

from ingestd import locks
from ingestd.cli import COMMANDS, cli
from ingestd.cli.read import split
from ingestd.cli.status import collect
from ingestd.errors import (
    BadFile,
    BrokenInvariant,
    BusyWorld,
    ConfigError,
    IngestdError,
    UsageError,
)
from ingestd.ledger import Ledger
from ingestd.ledger_schema import LEDGER
from ingestd.model import Entry, Placement, RowRange

GOOD = "sources:\n  s: {drop: in, output: out/o.h5}\n"
WRONG = "workers: many\nsources:\n  s: {drop: in, output: out/o.h5, ordr: name}\n"


def test_every_exit_code_is_that_of_its_kind_of_failure() -> None:
    assert {e.exit_code for e in (IngestdError, BrokenInvariant, BadFile)} == {1}
    assert (UsageError.exit_code, BusyWorld.exit_code, ConfigError.exit_code) == (2, 75, 78)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_a_config(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])

    assert result.exit_code == 0
    assert f"Usage: cli {command}" in result.output
    assert "-c, --config" in result.output
    assert len(result.output.splitlines()) > 4


def test_the_help_of_all_names_each_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])

    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.output


def test_the_version_is_told(tmp_path) -> None:
    try:
        version = metadata.version("ingestd")
    except metadata.PackageNotFoundError:
        pytest.skip("ingestd runs from its source, and is not installed")

    assert version in run("--version", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["run", "--nonsense"],
        ["run", "extra"],
        ["trace", "x.h5"],
        ["trace", "x.h5", "minus"],
        ["tail"],
        ["tail", "x.h5", "--from", "middle"],
        ["verify"],
        ["repair"],
        ["tail", "x.h5", "--timeout", "-1"],
        ["status", "-c"],
        ["run", "-c", "."],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(tmp_path, words: list[str]) -> None:
    done = run(*words, cwd=tmp_path, code=2)

    assert "Error:" in done.stderr or "ingestd:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "check", "status", "retry"])
def test_a_wrong_config_ends_with_78_and_names_every_mistake(tmp_path, command: str) -> None:
    (tmp_path / "w.yaml").write_text(WRONG)

    done = run(command, "-c", "w.yaml", cwd=tmp_path, code=78)

    assert "w.yaml:1:10:" in done.stderr
    assert "w.yaml:3:" in done.stderr
    assert "ordr" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "w.yaml"]


@pytest.mark.parametrize("command", ["run", "check", "status", "retry"])
def test_a_config_that_is_not_there_ends_with_78(tmp_path, command: str) -> None:
    done = run(command, "-c", "none.yaml", cwd=tmp_path, code=78)

    assert "none.yaml" in done.stderr
    assert "ingestd init" in done.stderr


def test_check_writes_nothing(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text(GOOD)

    done = run("check", cwd=tmp_path)
    told = json.loads(run("check", "--json", cwd=tmp_path).stdout)

    assert "ingestd.yaml: right" in done.stdout
    assert told["sources"] == ["s"]
    assert list(tmp_path.iterdir()) == [tmp_path / "ingestd.yaml"]


def test_check_says_which_rows_a_sample_would_become(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text(GOOD)
    np.save(tmp_path / "a.npy", np.zeros((7, 4), "u2"))

    told = json.loads(run("check", "--sample", "a.npy", "--json", cwd=tmp_path).stdout)

    (dataset,) = told["datasets"]
    assert dataset["dtype"] == "uint16"
    assert (dataset["rows"], dataset["row_shape"]) == (7, [4])
    assert not (tmp_path / "out").exists()


def test_check_explains_the_chunks_of_a_sample(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text(GOOD)
    np.save(tmp_path / "a.npy", np.zeros((64, 128, 256), "u2"))

    done = run("check", "--sample", "a.npy", cwd=tmp_path)

    assert "in chunks of 16 rows = 1 MiB; one file fills 4" in done.stdout


def test_check_leaves_out_the_chunks_of_a_dataset_that_is_there(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text(GOOD)
    np.save(tmp_path / "a.npy", np.zeros((7, 4), "u2"))
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", np.zeros((7, 4), "u2"))
    run("run", "--once", cwd=tmp_path)

    done = run("check", "--sample", "a.npy", cwd=tmp_path)

    assert "7 rows of" in done.stdout
    assert "chunks" not in done.stdout


def test_check_says_of_the_chunks_what_the_config_tells(tmp_path) -> None:
    said = {
        "{}": "",
        "{dtype: u2, row_shape: [1024, 1024]}": ", in chunks of 1 x 512 x 1024 = 1 MiB; "
        "one row fills 2",
        "{dtype: u2, row_shape: [32], stack: true}": ", in chunks of 16384 rows = 1 MiB; one holds "
        "16384 files",
        "{dtype: u2, row_shape: [32], chunk_rows: 10}": ", in chunks of 10 rows = 640 bytes",
        "{dtype: f8, row_shape: []}": ", in chunks of about 131072 rows fitted to the first file",
        "{dtype: f8, row_shape: [], compression: lz4}": ", in chunks fitted to the first file",
    }
    datasets = ", ".join(f"/{number}: {text}" for number, text in enumerate(said))
    (tmp_path / "ingestd.yaml").write_text(
        f"sources: {{s: {{drop: in, output: out/x.h5, datasets: {{{datasets}}}}}}}"
    )

    lines = [s for s in run("check", cwd=tmp_path).stdout.splitlines() if s.startswith("  s: ")]

    assert lines == [
        f"  s: in/ -> out/x.h5:/{number}{text}" for number, text in enumerate(said.values())
    ]


def test_check_of_a_bad_sample_ends_with_1_and_the_reason(tmp_path) -> None:
    (tmp_path / "a.npy").write_bytes(b"no array")

    done = run("check", "--sample", "a.npy", cwd=tmp_path, code=1)

    assert "a.npy: would be quarantined" in done.stderr


@pytest.mark.parametrize("words", [["none.npy"], ["x.unknown"], ["a.npy", "--source", "t"]])
def test_check_of_a_sample_that_no_source_takes_is_wrong_usage(tmp_path, words) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))

    done = run("check", "--sample", *words, cwd=tmp_path, code=2)

    assert words[0] in done.stderr or "--source t" in done.stderr


def test_once_takes_what_is_there_and_status_and_trace_tell_of_it(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text(GOOD)
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", np.arange(5))

    done = run("run", "--once", cwd=tmp_path)
    status = json.loads(run("status", "--json", cwd=tmp_path).stdout)
    trace = json.loads(run("trace", "out/o.h5", "3", "--json", cwd=tmp_path).stdout)

    assert "1 file, 5 rows committed in 0." in done.stderr
    assert " files/s, " in done.stderr
    assert "/s); 0 skipped, 0 quarantined" in done.stderr
    assert status["running"] is False
    (source,) = status["sources"]
    assert (source["files"], source["rows"], source["waiting"]) == (1, 5, 0)
    assert trace["name"] == "a.npy" if "name" in trace else "a.npy" in str(trace)
    run("verify", "out/o.h5", cwd=tmp_path)


def test_once_with_a_bad_file_ends_with_1_and_retry_puts_it_back(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text(GOOD)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.npy").write_bytes(b"")

    done = run("run", "--once", cwd=tmp_path, code=1)
    assert "1 quarantined" in done.stderr
    wrong = run("retry", "b.npy", cwd=tmp_path, code=1)
    assert "b.npy: no such file in quarantine" in wrong.stderr
    back = json.loads(run("retry", "a.npy", "--json", cwd=tmp_path).stdout)

    assert back == {"put_back": ["failed/s/a.npy"], "kept": []}
    assert (tmp_path / "in/a.npy").exists()
    assert not list((tmp_path / "failed/s").iterdir())


def test_a_second_daemon_ends_with_75_and_says_who_has_the_state(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text(GOOD)
    (tmp_path / "other.yaml").write_text("state: other\n" + GOOD)

    with locks.hold(tmp_path / "state/lock", "x"):
        first = run("run", cwd=tmp_path, code=75)
    with locks.hold(locks.output_lock(tmp_path / "out/o.h5"), "x"):
        second = run("run", "-c", "other.yaml", cwd=tmp_path, code=75)

    assert "another ingestd uses this state directory" in first.stderr
    assert "another ingestd writes out/o.h5" in second.stderr
    assert str(os.getpid()) in first.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["tail", "none.h5", "--once"],
        ["trace", "none.h5", "0"],
        ["verify", "none.h5"],
        ["repair", "none.h5"],
    ],
    ids=" ".join,
)
def test_an_output_that_is_not_there_is_said_without_a_trace(tmp_path, words) -> None:
    done = run(*words, cwd=tmp_path, code=(1, 2))

    assert "none.h5" in done.stderr
    assert "Traceback" not in done.stderr


def test_init_writes_a_config_that_is_right_and_never_over_another(tmp_path) -> None:
    run("init", cwd=tmp_path)
    run("check", cwd=tmp_path)

    done = run("init", cwd=tmp_path, code=2)

    assert "ingestd.yaml: is already there" in done.stderr
    run("init", "--force", cwd=tmp_path)


def test_init_from_a_sample_makes_a_config_that_takes_it(tmp_path) -> None:
    np.savez(tmp_path / "run_001.npz", frames=np.zeros((2, 3, 4), "u2"), t=np.zeros(2))

    run("init", "--from", "run_001.npz", cwd=tmp_path)
    told = json.loads(run("check", "--sample", "run_001.npz", "--json", cwd=tmp_path).stdout)

    assert {d["dataset"]: d["rows"] for d in told["datasets"]} == {"/frames": 2, "/t": 2}


def test_the_schema_is_json(tmp_path) -> None:
    told = json.loads(run("schema", cwd=tmp_path).stdout)

    assert told["title"] == "ingestd config"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a.h5", ("a.h5", None)),
        ("a.h5:/x/y", ("a.h5", "/x/y")),
        ("a.h5:", ("a.h5", None)),
        (":/x", (":/x", None)),
        ("c:d.h5:/x", ("c:d.h5", "/x")),
    ],
)
def test_an_output_and_its_dataset_are_told_apart(word: str, expected) -> None:
    assert split(word) == (Path(expected[0]), expected[1])


def test_the_help_of_all_imports_no_command() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from ingestd.cli import cli; "
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0; "
        "print(*({'h5py', 'numpy', 'pydantic', 'rich', 'yaml'} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_status_counts_a_file_whose_commit_is_to_come_as_waiting(tmp_path) -> None:
    config = make_config(tmp_path)
    source = config.sources["s"]
    np.save(source.drop / "a.npy", np.arange(5))
    config.state.mkdir()
    ledger = Ledger(config.state / LEDGER)
    rows = Placement("/data", RowRange(0, 5), "")
    ledger.intend([Entry(1, drop_file(source, "a.npy"), "", str(source.output), (rows,))])
    ledger.close()

    (found,) = collect(config)

    assert (found.waiting, found.files) == (1, 0)


def test_check_refuses_an_output_that_is_a_directory(tmp_path) -> None:
    (tmp_path / "ingestd.yaml").write_text("sources: {s: {drop: drop, output: data}}")
    (tmp_path / "data").mkdir()

    done = run("check", cwd=tmp_path, code=78)

    assert "sources.s.output: data is a directory; name a file" in done.stderr
