"""``status``: how each source is doing, from the ledger and the directories; changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingestd import locks
from ingestd.cli import config_path
from ingestd.cli.unclaimed import said, unclaimed
from ingestd.config import Config, Source, load, wildcard
from ingestd.formats.registry import suffixes
from ingestd.ledger import Ledger, Summary
from ingestd.ledger_schema import LEDGER
from ingestd.lifecycle import State
from ingestd.model import DropFile, Fingerprint, RowRange, shown
from ingestd.pipeline.archive import REASON
from ingestd.pipeline.scan import walk
from ingestd.pipeline.settle import age_seconds

if TYPE_CHECKING:
    from rich.table import Table

RATE_SECONDS = 60.0
GAPS_MAX = 10


@dataclass(frozen=True)
class SourceStatus:
    """One source. Ages in seconds; ``rows_per_second`` over the last minute.

    ``missing_rows``: the gaps of each dataset whose rows are placed, as "41-43, 50".
    """

    source: str
    waiting: int
    oldest_waiting_seconds: float | None
    files: int
    rows: int
    rows_per_second: float
    newest_file: str | None
    skipped: int
    failures: int
    problem: str | None
    missing_rows: dict[str, str]


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (a line, each time).")
@click.pass_context
def status(ctx: click.Context, watch: bool, as_json: bool) -> None:
    """Say how each source is doing: waiting, rows, rate, newest file, failures."""
    config = load(config_path(ctx))
    if not watch:
        _show(config, as_json)
        return
    try:
        while True:
            if not as_json:
                click.clear()
            _show(config, as_json)
            time.sleep(1)
    except KeyboardInterrupt:
        return


def _show(config: Config, as_json: bool) -> None:
    running = locks.held(config.state / "lock")
    found = collect(config)
    if as_json:
        told = {"running": running, "sources": [asdict(s) for s in found]}
        click.echo(json.dumps({**told, "unclaimed": unclaimed(config)}))
        return
    from rich.console import Console

    console = Console()
    console.print("running" if running else "not running: start it with 'ingestd run'")
    console.print(_table(found))
    for remark in _remarks(config, found):
        console.print(remark, markup=False)


def _table(found: list[SourceStatus]) -> Table:
    from rich.table import Table

    table = Table("source", "waiting", "oldest", "files", "rows", "rows/s", "newest", "failed")
    for s in found:
        oldest = "" if s.oldest_waiting_seconds is None else f"{s.oldest_waiting_seconds:.0f}s"
        table.add_row(
            s.source,
            str(s.waiting),
            oldest,
            str(s.files),
            str(s.rows),
            f"{s.rows_per_second:.1f}",
            s.newest_file or "",
            str(s.failures),
        )
    return table


def _remarks(config: Config, found: list[SourceStatus]) -> Iterator[str]:
    for s in found:
        for dataset, gaps in s.missing_rows.items():
            yield f"{dataset}: missing {gaps}"
        if s.problem:
            yield f"{s.source}: {s.problem}"
        if s.failures:
            yield (
                f"{s.source}: why files failed stands in {config.sources[s.source].quarantine}/"
                f"*{REASON}; put them back with 'ingestd retry'"
            )
    for drop, names in unclaimed(config).items():
        yield said(drop, names)


def collect(config: Config) -> list[SourceStatus]:
    """The status of every source."""
    path = config.state / LEDGER
    if not path.exists():
        return [_of(source, None) for source in config.sources.values()]
    ledger = Ledger(path, read_only=True)
    try:
        return [_of(source, ledger) for source in config.sources.values()]
    finally:
        ledger.close()


def _of(source: Source, ledger: Ledger | None) -> SourceStatus:
    output = None if wildcard(source.output) else str(source.output)
    summary = ledger.summary(source.name, output, RATE_SECONDS) if ledger else Summary()
    waiting, oldest, problem = 0, None, None
    try:
        for age in _waiting_ages(source, ledger):
            waiting += 1
            oldest = max(age, oldest or 0.0)
    except OSError as error:
        problem = f"{source.drop}: {error.strerror}"
    return SourceStatus(
        source=source.name,
        waiting=waiting,
        oldest_waiting_seconds=oldest,
        files=summary.files,
        rows=summary.rows,
        rows_per_second=summary.recent_rows / RATE_SECONDS,
        newest_file=None if summary.newest is None else shown(summary.newest),
        skipped=summary.skipped,
        failures=_failures(source.quarantine),
        problem=problem,
        missing_rows=dict(_missing(source, ledger)) if ledger else {},
    )


def _missing(source: Source, ledger: Ledger) -> Iterator[tuple[str, str]]:
    """The gaps between the rows of each dataset of the source that are placed."""
    if not source.placed:
        return
    for output, datasets in ledger.fed_by(source.name).items():
        for dataset in datasets:
            placed = ledger.placed(output, dataset)
            gaps = list(placed.missing(0, placed.stop))
            if gaps:
                yield f"{output}:{dataset}", _listed(gaps)


def _listed(gaps: list[RowRange]) -> str:
    named = [f"{g.start}-{g.stop - 1}" if len(g) > 1 else f"{g.start}" for g in gaps[:GAPS_MAX]]
    more = f" and {len(gaps) - GAPS_MAX} more gaps" if len(gaps) > GAPS_MAX else ""
    return ", ".join(named) + more


def _waiting_ages(source: Source, ledger: Ledger | None) -> list[float]:
    matcher = source.matcher(suffixes(source.format))
    ages = []
    for entry, name in walk(source.drop, source.recursive):
        if matcher.match(name) is None:
            continue
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        file = DropFile(source.name, name, Fingerprint.of(stat))
        if ledger is None or ledger.known(file) in (State.NEW, State.PENDING):
            ages.append(max(0.0, min(age_seconds(stat), 1e9)))
    return ages


def _failures(quarantine: Path) -> int:
    try:
        return sum(1 for _ in quarantine.rglob(f"*{REASON}"))
    except FileNotFoundError:
        return 0
