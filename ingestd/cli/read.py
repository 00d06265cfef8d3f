"""Commands that look into an output: they never write to it, and never hold its writer up."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ingestd.diagnosis import CannotRepair, inspect
from ingestd.errors import IngestdError
from ingestd.model import counted, shown
from ingestd.tail import Report
from ingestd.tail import trace as trace_row
from ingestd.tail import verify as verify_output
from ingestd.tail.text import origin_json, origin_text, report_json

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
output_argument = click.argument("output", metavar="OUTPUT[:DATASET]")


@click.command()
@output_argument
@click.argument("row", type=click.IntRange(min=0))
@_json
def trace(output: str, row: int, as_json: bool) -> None:
    """Print the drop file that ROW of OUTPUT came from.

    DATASET, as in data/ingest.h5:/data, may be left out if the output has one. In the JSON, bytes
    of a file name that are not UTF-8 stand as lone surrogates, as Python's os.fsdecode has them.
    """
    path, dataset = split(output)
    with ending_quietly():
        origin = trace_row(path, dataset, row)
        print(json.dumps(origin_json(path, origin)) if as_json else origin_text(path, origin))


@click.command()
@output_argument
@_json
def verify(output: str, as_json: bool) -> None:
    """Read every committed row of OUTPUT back, and compare it with its recorded digest.

    Without DATASET (as in data/ingest.h5:/data) all datasets are read. The daemon may go on
    writing meanwhile. Exits with 1 if anything differs.
    """
    path, dataset = split(output)
    _refuse_cut_short(path)
    with ending_quietly(on_interrupt=130):
        with _progress(hidden=as_json) as progress:
            report = verify_output(path, dataset, progress)
        if as_json:
            print(json.dumps(report_json(path, report)))
        else:
            _print_report(path, report)
        if not report.ok:
            sys.stdout.flush()
            raise SystemExit(1)


def _refuse_cut_short(path: Path) -> None:
    """A copy that was cut short may open, and show fewer records than it had."""
    try:
        found = inspect(path)
    except (CannotRepair, OSError):
        return  # who reads it says why
    if not found.flags and found.end is not None and found.size < found.end:
        raise IngestdError(
            f"{path}: is cut short: it ends at byte {found.size}, but should at {found.end}. "
            "Take a whole copy"
        )


def split(output: str) -> tuple[Path, str | None]:
    """OUTPUT[:DATASET] in two. A file whose own name has a colon is meant if it exists."""
    path, colon, dataset = output.rpartition(":")
    if not colon or not path or os.path.lexists(output):
        return Path(output), None
    return Path(path), dataset or None


@contextlib.contextmanager
def ending_quietly(on_interrupt: int = 0) -> Iterator[None]:
    """Ctrl-C and a reader that has seen enough (``| head``) are ends like any other."""
    try:
        try:
            yield
        except KeyboardInterrupt:
            raise SystemExit(on_interrupt) from None
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Else Python tries once more at exit, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def _print_report(path: Path, report: Report) -> None:
    for name, rows in report.rows.items():
        print(
            f"{shown(str(path))}:{shown(name)}: {counted(rows, 'row')} read back "
            f"(files: {report.files[name]})"
        )
    for problem in report.problems:
        click.echo(str(problem), err=True)
    unlisted = report.problem_count - len(report.problems)
    if unlisted:
        click.echo(f"and {unlisted} more", err=True)
    if report.ok:
        print("all as recorded")
    else:
        click.echo(
            f"{counted(report.problem_count, 'difference')}. Drop these files again, into a source "
            "with another output, or restore the output from a copy",
            err=True,
        )


@contextlib.contextmanager
def _progress(hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    if hidden or not sys.stderr.isatty():
        yield None
        return
    # Only here: it takes a while to import, and the other commands do without.
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading rows back")
        yield lambda done, total: bar.update(task, completed=done, total=total)
