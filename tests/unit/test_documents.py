"""What README, docs and the systemd unit say is true of this version."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ingestd.cli import COMMANDS
from ingestd.config import load, schema

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
UNIT = ROOT / "systemd" / "ingestd.service"

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def keys(node: Any) -> set[str]:
    """Every key that a config may hold, anywhere."""
    if isinstance(node, list):
        return set().union(*map(keys, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    here = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
    return here.union(*map(keys, node.values())) if node else here


@each_document
def test_python_in_documents_compiles(path: Path) -> None:
    for block in blocks(path.read_text(), "python"):
        compile(block, str(path), "exec")


def test_configs_in_the_readme_are_right(tmp_path: Path) -> None:
    found = blocks(README, "yaml")

    for number, block in enumerate(found):
        config = tmp_path / f"{number}.yaml"
        config.write_text(block)
        load(config)

    assert found


@each_document
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())

    broken = [link for link in links if not (path.parent / link).exists()]

    assert broken == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_lists_the_command(command: str) -> None:
    assert re.search(rf"^\| `{command}[ `]", README, re.MULTILINE)


def test_the_config_page_names_every_key() -> None:
    page = (ROOT / "docs" / "config.md").read_text()

    missing = {key for key in keys(schema()) if not re.search(rf"[`.]{key}`", page)}

    assert missing <= {"sources", "commit", "move"}


def test_the_readme_sets_up_and_runs_in_one_command_each() -> None:
    assert "\npython3 -m venv .venv && .venv/bin/pip install . && .venv/bin/ingestd run\n" in README
    assert (
        "\npython3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest\n"
        in README
    )


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/ingestd/bin/ingestd", "/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_config_is_not_tried_again_by_systemd() -> None:
    lines = UNIT.read_text().splitlines()

    assert {"Restart=on-failure", "RestartPreventExitStatus=78", "Type=notify"} <= set(lines)
