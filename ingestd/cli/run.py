"""``run``: the daemon, in the foreground."""

from __future__ import annotations

import os
import sys
import time

import click

from ingestd import journal
from ingestd.cli import config_path
from ingestd.cli.bar import Bar, shown_rates, shown_seconds
from ingestd.cli.unclaimed import said, unclaimed
from ingestd.config import Config, config_name, wildcard
from ingestd.model import counted
from ingestd.pipeline.commit import Progress
from ingestd.service import Service, load_config


@click.command()
@click.option("--once", is_flag=True, help="Take the files that are there, commit, and end.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.pass_context
def run(ctx: click.Context, once: bool, verbose: bool) -> None:
    """Watch the drop directories and append what is dropped, until told to stop.

    SIGTERM and Ctrl-C commit what is decoded, and end; SIGHUP takes the config anew.
    """
    path = config_path(ctx)
    config = load_config(path)
    journal.set_up(_stderr_is_the_journal(), verbose)
    if sys.stderr.isatty():
        _say_what_is_watched(config, config_name(path))
    service = Service(config, once=once)
    if not once:
        service.run()
        return
    began = time.monotonic()
    if sys.stderr.isatty():
        with Bar(service) as bar:
            service.run(bar.tick)
    else:
        service.run()
    click.echo(_summary(service.progress, time.monotonic() - began), err=True)
    for drop, names in unclaimed(config).items():
        click.echo(said(drop, names), err=True)
    if service.progress.quarantined:
        sys.exit(1)


def _summary(done: Progress, seconds: float) -> str:
    rates = f" ({shown_rates(done.files / seconds, done.bytes / seconds)})" if done.files else ""
    return (
        f"{counted(done.files, 'file')}, {counted(done.rows, 'row')} committed in "
        f"{shown_seconds(seconds)}{rates}; {done.skipped} skipped, {done.quarantined} quarantined"
    )


def _stderr_is_the_journal() -> bool:
    """As systemd.exec(5) has it: $JOURNAL_STREAM is inherited also by what writes elsewhere."""
    stderr = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"


def _say_what_is_watched(config: Config, name: str) -> None:
    """Where to drop files, and how to look at the result."""
    click.echo(f"ingestd, with {name}:", err=True)
    for source in config.sources.values():
        for dataset in source.datasets:
            click.echo(f"  drop files into {source.drop}/  ->  {source.output}:{dataset}", err=True)
        if wildcard(source.output):
            continue
        click.echo(f"  look at it:  ingestd tail {source.output} --from start", err=True)
        click.echo(
            f"  in Python:   h5py.File('{source.output}', 'r', swmr=True)"
            f"['{next(iter(source.datasets))}']",
            err=True,
        )
    click.echo("Ctrl-C ends it.", err=True)
