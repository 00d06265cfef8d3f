"""Commands that set things right after trouble. Each prints what it changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ingestd.cli import config_path
from ingestd.config import Source, load
from ingestd.errors import IngestdError
from ingestd.ledger import Ledger
from ingestd.ledger_schema import LEDGER
from ingestd.model import shown
from ingestd.pipeline.archive import put_back, quarantined
from ingestd.repair import Repair
from ingestd.repair import repair as repair_file


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def repair(file: Path, dry_run: bool, as_json: bool) -> None:
    """Make an HDF5 FILE that a crashed writer left behind open again.

    Changes only the marks that the writer left, never data, after a copy of the changed bytes is
    on disk beside FILE. Readers may stay attached; a file that is being written is refused.
    """
    try:
        done = repair_file(file, dry_run=dry_run)
    except IngestdError as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from None
    click.echo(json.dumps(_as_json(done), indent=1) if as_json else _as_text(done))
    if done.opens is not None:
        click.echo(f"{file}: {_no_use(done)}", err=True)
        raise SystemExit(1)


def _no_use(done: Repair) -> str:
    why = f"still does not open: {done.opens}"
    if done.diagnosis.end is None:
        return (
            f"{why}. Its superblock is of version {done.diagnosis.version}, which keeps no mark of "
            "a writer that could be mended (and cannot be written in SWMR mode). Restore it from "
            "a copy, and write with libver=('v110', 'latest') from now on"
        )
    return f"{why}. Its writer died with metadata unwritten: restore it from a copy"


def _as_text(done: Repair) -> str:
    found = done.diagnosis
    lines = [f"{found.path}: {problem}" for problem in found.problems]
    lines += [f"warning: {warning}" for warning in found.warnings]
    would = "would change" if done.dry_run else "changed"
    for change in found.changes:
        lines += [
            f"{would} {len(change.new)} bytes at {change.offset}:",
            f"  old {change.old.hex()}",
            f"  new {change.new.hex()}",
        ]
    if found.new_end != found.end:
        lines.append(f"{would} the end of allocation from {found.end} to {found.new_end}")
    if found.new_size != found.size:
        lines.append(f"{would} the size from {found.size} to {found.new_size} bytes")
    if done.copy:
        lines.append(f"the bytes as they were: {done.copy}")
    if done.opens is None and (found.healthy or not done.dry_run):
        lines.append(f"{found.path}: opens" + (", nothing to repair" if found.healthy else " now"))
    return "\n".join(lines)


def _as_json(done: Repair) -> dict[str, Any]:
    found = done.diagnosis
    return {
        "file": str(found.path),
        "dry_run": done.dry_run,
        "healthy": found.healthy,
        "problems": found.problems,
        "warnings": found.warnings,
        "superblock_version": found.version,
        "flags": found.flags,
        "old_end": found.end,
        "new_end": found.new_end,
        "old_size": found.size,
        "new_size": found.new_size,
        "changes": [
            {"offset": c.offset, "old": c.old.hex(), "new": c.new.hex()} for c in found.changes
        ],
        "copy": None if done.copy is None else str(done.copy),
        "opens": done.opens,
    }


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def retry(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Put quarantined files back into their drop directory: all, or those of the given NAMES."""
    config = load(config_path(ctx))
    found = [
        (source, file)
        for source in config.sources.values()
        for file in quarantined(source)
        if not names or not names_of(source, file).isdisjoint(names)
    ]
    missing = set(names).difference(*(names_of(source, file) for source, file in found))
    path = config.state / LEDGER
    ledger = Ledger(path) if path.exists() else None
    back: list[Path] = []
    kept: list[Path] = []
    for source, file in found:
        (back if put_back(source, file, ledger) else kept).append(file)
    if as_json:
        click.echo(
            json.dumps(
                {"put_back": [shown(str(f)) for f in back], "kept": [shown(str(f)) for f in kept]}
            )
        )
    else:
        click.echo(f"{len(back)} {'file' if len(back) == 1 else 'files'} put back")
    for file in kept:
        click.echo(
            f"{shown(str(file))}: another file of this name waits in the drop directory; "
            "retry once that is taken",
            err=True,
        )
    for name in sorted(missing):
        click.echo(f"{shown(name)}: no such file in quarantine", err=True)
    if kept or missing:
        raise SystemExit(1)


def names_of(source: Source, file: Path) -> set[str]:
    """What a user may call a quarantined file: its name, or a path to it."""
    return {file.name, str(file.relative_to(source.quarantine)), str(file), str(file.absolute())}
