"""Commands that look into an output: they never write to it, and never hold its writer up."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from ingestd.diagnosis import CannotRepair, inspect
from ingestd.errors import IngestdError
from ingestd.model import shown
from ingestd.tail import (
    Block,
    NoSuchDataset,
    Output,
    Report,
    open_tail,
)
from ingestd.tail import trace as trace_row
from ingestd.tail import verify as verify_output
from ingestd.tail.text import json_row, line, origin_json, origin_text, report_json

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_output = click.argument("output", metavar="OUTPUT[:DATASET]")


def _start(value: str) -> int | str:
    if value in ("start", "end"):
        return 0 if value == "start" else "end"
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not start, end, or a number of rows") from None


@click.command()
@_output
@click.option(
    "--from",
    "start",
    metavar="start|end|N",
    type=_start,
    help="Row to begin with; -N: the last N.  [default: end, with --once start]",
)
@click.option("--once", is_flag=True, help="Print what is committed now, and exit.")
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Exit when no new rows came for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each row.")
def tail(output: str, start: Any, once: bool, timeout_seconds: float | None, as_json: bool) -> None:
    """Print rows of OUTPUT as they are committed, through restarts of the daemon.

    DATASET, as in data/ingest.h5:/data, may be left out if the output has one. An output that is
    not there yet is waited for, unless --once is given.

    With --json each row is {"row": 12, "values": ...}: strict JSON with NaN and the infinities as
    the strings "NaN", "Infinity", "-Infinity", and complex numbers as [real, imaginary].
    """
    path, dataset = _split(output)
    start = ("end", 0)[once] if start is None else start
    with _ending_quietly():
        if once:
            with Output(path) as file:
                file.resolve(dataset)
            timeout_seconds = 0
        else:
            _say_what_is_waited_for(path, dataset)
        with open_tail(
            path, dataset, start, whole_files=False, timeout=timeout_seconds, stop=_nobody_reads
        ) as blocks:
            _print_rows(blocks, as_json)


@click.command()
@_output
@click.argument("row", type=click.IntRange(min=0))
@_json
def trace(output: str, row: int, as_json: bool) -> None:
    """Print the drop file that ROW of OUTPUT came from.

    DATASET, as in data/ingest.h5:/data, may be left out if the output has one. In the JSON, bytes
    of a file name that are not UTF-8 stand as lone surrogates, as Python's os.fsdecode has them.
    """
    path, dataset = _split(output)
    with _ending_quietly():
        origin = trace_row(path, dataset, row)
        print(json.dumps(origin_json(path, origin)) if as_json else origin_text(path, origin))


@click.command()
@_output
@_json
def verify(output: str, as_json: bool) -> None:
    """Read every committed row of OUTPUT back, and compare it with its recorded digest.

    Without DATASET (as in data/ingest.h5:/data) all datasets are read. The daemon may go on
    writing meanwhile. Exits with 1 if anything differs.
    """
    path, dataset = _split(output)
    _refuse_cut_short(path)
    with _ending_quietly(on_interrupt=130):
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


def _split(output: str) -> tuple[Path, str | None]:
    """OUTPUT[:DATASET] in two. A file whose own name has a colon is meant if it exists."""
    path, colon, dataset = output.rpartition(":")
    if not colon or not path or os.path.lexists(output):
        return Path(output), None
    return Path(path), dataset or None


def _say_what_is_waited_for(path: Path, dataset: str | None) -> None:
    where = shown(str(path))
    if not path.exists():
        click.echo(f"{where}: not there yet, waiting for it", err=True)
    elif dataset is not None:
        try:
            with Output(path) as file:
                file.resolve(dataset)
        except NoSuchDataset as error:
            click.echo(f"{error}. Waiting for it", err=True)


def _print_rows(blocks: Iterator[Block[np.ndarray]], as_json: bool) -> None:
    for block in blocks:
        width = shutil.get_terminal_size().columns
        for row, values in enumerate(block.rows, block.start):
            text = json_row(row, values) if as_json else line(row, values, width)
            sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader went away: there may be no row soon to tell us."""
    try:
        fd = sys.stdout.fileno()
    except (io.UnsupportedOperation, ValueError):
        return False
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextlib.contextmanager
def _ending_quietly(on_interrupt: int = 0) -> Iterator[None]:
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
            f"{shown(str(path))}:{shown(name)}: {rows} rows read back (files: {report.files[name]})"
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
            f"{report.problem_count} differ. Put these files into the drop directory again, "
            "under an output of another name, or restore the output from a copy",
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
