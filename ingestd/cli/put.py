"""``put``: hands files in, and prints which rows they became once these are durable."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ingestd.cli import config_path
from ingestd.config import load
from ingestd.formats.registry import check_formats
from ingestd.handin.offers import offers
from ingestd.handin.outcome import NotDurable, Outcome
from ingestd.handin.putting import Handing
from ingestd.lifecycle import State
from ingestd.model import shown


@click.command()
@click.argument("source")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--move", is_flag=True, help="Take the files themselves, not copies.")
@click.option(
    "--name", help="The name to go by, for one FILE; with directories if SOURCE is recursive."
)
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Wait no longer than this.  [default: as long as the daemon lives]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
@click.pass_context
def put(
    ctx: click.Context,
    source: str,
    files: tuple[Path, ...],
    move: bool,
    name: str | None,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    """Hand files in to SOURCE, and return when their rows are durable.

    Each FILE is copied into the drop directory, where it appears whole, and stays itself where it
    is. For each, once its rows are committed, a line says which rows of which dataset they are.
    A file whose content came before is not taken twice: its line says where its rows stand.

    Exits with 0 when the rows of all files are durable; 1 if one was quarantined; 2 if SOURCE
    would not take one, and nothing was handed in; 75 if that is not known: no daemon runs, or it
    ended meanwhile, the time is up, the disk is full. What lies in the drop directory by then
    will be taken. After 75, or when put itself was killed, call it again: no row comes twice.

    The daemon has to run with the same config, in the same directory.

    With --json: {"file": ..., "name": ..., "source": ..., "state": "committed" | "skipped" |
    "quarantined" | "waiting" | "left", "output": ..., "rows": [{"dataset": ..., "first_row": ...,
    "rows": ..., "rows_xxh3_128": ...}], "reason": ...}; "left" was not handed in.
    """
    config = load(config_path(ctx), check_formats)
    handing = Handing(config, offers(config, source, files, name), move, timeout_seconds)
    bad = False
    try:
        for outcome in handing.outcomes():
            bad |= not outcome.durable
            _say(outcome, as_json, config.sources[source].quarantine)
    except NotDurable as error:
        _say_rest(error, as_json)
        raise
    except KeyboardInterrupt:
        rest = handing.not_durable("interrupted")
        _say_rest(rest, as_json)
        click.echo(f"ingestd: {rest}", err=True)
        raise SystemExit(130) from None
    if bad:
        raise SystemExit(1)


def _say(outcome: Outcome, as_json: bool, quarantine: Path) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(outcome)))
        return
    file = shown(str(outcome.file))
    if outcome.state is State.QUARANTINED:
        where = f"It lies in {shown(str(quarantine))}"
        click.echo(f"{file}: quarantined: {outcome.reason}. {where}", err=True)
        return
    why = f"skipped, {outcome.reason}: " if outcome.state is State.SKIPPED else ""
    click.echo(f"{file}: {why}{', '.join(_rows(outcome)) or 'no rows'}")


def _rows(outcome: Outcome) -> Iterator[str]:
    for dataset, rows, _ in outcome.placements:
        which = f"rows {rows.start} to {rows.stop - 1}" if len(rows) > 1 else f"row {rows.start}"
        where = f"{shown(str(outcome.output))}:{shown(dataset)}"
        yield f"{which if len(rows) else 'no rows'} of {where}"


def _say_rest(error: NotDurable, as_json: bool) -> None:
    """As JSON, what is not known to be durable; for people the error says it."""
    if as_json:
        for state, files in (("waiting", error.waiting), ("left", error.left)):
            for file in files:
                click.echo(json.dumps({"file": os.fspath(file), "state": state}))


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "file": str(outcome.file),
        "name": outcome.name,
        "source": outcome.source,
        "state": str(outcome.state),
        "output": outcome.output,
        "rows": [
            {
                "dataset": p.dataset,
                "first_row": p.rows.start,
                "rows": len(p.rows),
                "rows_xxh3_128": p.digest,
            }
            for p in outcome.placements
        ],
        "reason": outcome.reason,
    }
