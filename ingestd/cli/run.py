"""``run``: the daemon, in the foreground."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click

from ingestd import journal
from ingestd.cli import config_path
from ingestd.config import Config, config_name
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
    if once and sys.stderr.isatty():
        _run_with_bar(service)
    else:
        service.run()
    if once:
        done = service.progress
        click.echo(
            f"{done.files} files, {done.rows} rows committed; "
            f"{done.skipped} skipped, {done.quarantined} quarantined",
            err=True,
        )
        if done.quarantined:
            sys.exit(1)


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
        click.echo(f"  look at it:  ingestd tail {source.output} --from start", err=True)
        click.echo(
            f"  in Python:   h5py.File('{source.output}', 'r', swmr=True)"
            f"['{next(iter(source.datasets))}']",
            err=True,
        )
    click.echo("Ctrl-C ends it.", err=True)


def _run_with_bar(service: Service) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.completed:.0f} of {task.total:.0f} files"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=0, rate="")
        service.run(_advance(bar.update, task, service))


def _advance(update: Callable[..., None], task: object, service: Service) -> Callable[[], None]:
    def tick() -> None:
        done = service.progress
        seen = done.files + done.skipped + done.quarantined
        waiting = service.flow.waiting() if service.flow else 0
        update(task, completed=seen, total=seen + waiting, rate=f"{done.bytes / 2**20:.0f} MiB")

    return tick
