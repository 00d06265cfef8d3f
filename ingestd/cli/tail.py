"""``ingestd tail``: rows of an output as they are committed, for people, pipes and programs."""

from __future__ import annotations

import io
import math
import select
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from ingestd.cli.read import ending_quietly, output_argument, split
from ingestd.errors import IngestdError
from ingestd.model import shown
from ingestd.tail import Block, NoSuchDataset, Output, open_tail

_FORMATS = ("table", "csv", "jsonl", "npy")
_DRAWN_ROWS, _DRAWN_BYTES = 500, 1 << 16


def _start(value: str) -> int | str:
    if value in ("start", "end"):
        return 0 if value == "start" else "end"
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not start, end, or a number of rows") from None


@click.command()
@output_argument
@click.option(
    "--from",
    "start",
    metavar="start|end|N",
    type=_start,
    help="Row to begin with; -N: the last N.  "
    "[default: end, with --once start, with --plot the newest]",
)
@click.option("--once", is_flag=True, help="Print what is committed now, and exit.")
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Exit when no new rows came for so long.",
)
@click.option(
    "--max-rows",
    metavar="N",
    type=click.IntRange(min=1),
    help="Rows of a block at most.  [default: whole files, several if they are small]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="table",
    help="How rows are printed: jsonl, csv with a header, or npy, one after the other.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl.")
@click.option("--stats", is_flag=True, help="Print one line for each block.")
@click.option("--plot", is_flag=True, help="Draw the newest rows in the terminal.")
@click.option("--exec", "program", metavar="CMD", help="Run CMD in a shell for each block.")
@click.option("--keep-going", is_flag=True, help="With --exec: go on when CMD fails.")
def tail(
    output: str,
    start: Any,
    once: bool,
    timeout_seconds: float | None,
    max_rows: int | None,
    form: str,
    as_json: bool,
    stats: bool,
    plot: bool,
    program: str | None,
    keep_going: bool,
) -> None:
    """Print rows of OUTPUT as they are committed, through restarts of the daemon.

    DATASET, as in data/ingest.h5:/data, may be left out if the output has one. An output that is
    not there yet is waited for, unless --once is given.

    jsonl: each row is {"row": 12, "values": ...}: strict JSON with NaN and the infinities as
    the strings "NaN", "Infinity", "-Infinity", and complex numbers as [real, imaginary]. Times
    are ISO 8601 texts in all formats but npy, which has the integers that are stored.

    npy: each block is one .npy; numpy.load(file) in a loop reads them.

    --exec: CMD gets the block's rows on stdin as one .npy, and in its environment START, STOP (the
    rows), DATASET and FILES (names of the drop files, one on each line). When it fails, so do we,
    with its exit code.
    """
    if sum([stats, plot, program is not None, form != "table" or as_json]) > 1:
        raise click.UsageError("give only one of --format, --json, --stats, --plot, --exec")
    if plot and not sys.stdout.isatty():
        raise click.UsageError("--plot draws in a terminal, and the output is none")
    path, dataset = split(output)
    with ending_quietly():
        if once:
            timeout_seconds = 0
            with Output(path) as file:
                file.resolve(dataset)
        else:
            _say_what_is_waited_for(path, dataset)
        if start is None:
            start = 0 if once else _newest(path, dataset) if plot else "end"
        by_block = stats or program is not None
        blocks = open_tail(
            path,
            dataset,
            start,
            whole_files=by_block,
            timeout=timeout_seconds,
            stop=_nobody_reads,
            max_rows=max_rows,
        )
        with blocks:
            # Only here: each needs what the others do without.
            if program is not None:
                from ingestd.cli.program import run_for_each

                run_for_each(blocks, program, keep_going)
            elif plot:
                from ingestd.cli.picture import draw

                draw(blocks)
            else:
                from ingestd.cli.printing import print_blocks

                form = "stats" if stats else "jsonl" if as_json else form
                print_blocks(blocks, form, lambda block: _units(path, block))


def _newest(path: Path, dataset: str | None) -> int:
    """Where to begin so that there is something to draw at once: -N for the last N rows."""
    try:
        with Output(path) as file:
            row_type = file.row_type(file.resolve(dataset))
    except IngestdError:
        return -1  # not there yet, or it is told by who reads it
    row_bytes = row_type.dtype.itemsize * math.prod(row_type.row_shape)
    return -max(1, min(_DRAWN_ROWS, _DRAWN_BYTES // max(1, row_bytes)))


def _units(path: Path, block: Block[np.ndarray]) -> Mapping[str, str]:
    """The units of the times in ``block``, by path of the field."""
    (dataset,) = block.ranges
    with Output(path) as file:
        return file.row_type(dataset).units


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


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader went away: there may be no row soon to tell us."""
    try:
        fd = sys.stdout.fileno()
    except (io.UnsupportedOperation, ValueError):
        return False
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
