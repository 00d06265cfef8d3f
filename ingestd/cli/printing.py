"""Prints blocks of rows to stdout: in columns for people, or for programs, without loss."""

from __future__ import annotations

import csv
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import click
import numpy as np

from ingestd.cli.values import columns, numbers, with_times, write_npy
from ingestd.model import shown
from ingestd.tail import Block
from ingestd.tail.text import json_row, line, short

Rows = Block[np.ndarray]
Units = Mapping[str, str]

_FILE_COLUMNS = 24


def print_blocks(blocks: Iterator[Rows], form: str, units: Callable[[Rows], Units]) -> None:
    """Print each block as ``form`` says: table, csv, jsonl, npy or stats; at once.

    ``units`` tells which values of a block are times; only npy shows these as the integers they
    are stored as.
    """
    printed: Callable[[Rows], None] = _PRINTERS[form]()
    known: Units | None = {} if form == "npy" else None
    for block in blocks:
        known = units(block) if known is None else known
        printed(replace(block, rows=with_times(block.rows, known)))
        sys.stdout.flush()


class _Table:
    """One line for each row: its number, on a terminal its file, and its values."""

    def __init__(self) -> None:
        self._on_terminal = sys.stdout.isatty()
        self._headed = not self._on_terminal

    def __call__(self, block: Rows) -> None:
        width = shutil.get_terminal_size().columns
        if not self._headed:
            self._headed = True
            print(
                click.style(f"{'row':>9}  {'file':<{_FILE_COLUMNS}}  {_heading(block)}", bold=True)
            )
        if not self._on_terminal:
            for row, values in enumerate(block.rows, block.start):
                print(line(row, values, width))
            return
        for file in block.files:
            first, end = max(block.start, file.rows.start), min(block.stop, file.rows.stop)
            name = shown(file.name)[-_FILE_COLUMNS:]
            for row in range(first, end):
                text = line(row, block.rows[row - block.start], width - _FILE_COLUMNS - 2)
                print(f"{text[:11]}{name:<{_FILE_COLUMNS}}  {text[11:]}")


def _heading(block: Rows) -> str:
    rows = block.rows
    names = f" ({', '.join(map(shown, rows.dtype.names))})" if rows.dtype.names else ""
    return f"{'x'.join(map(str, rows.shape[1:])) or 'value'} {rows.dtype.str}{names}"


class _Json:
    def __call__(self, block: Rows) -> None:
        for row, values in enumerate(block.rows, block.start):
            sys.stdout.write(json_row(row, values) + "\n")


class _Csv:
    """One line for each row, with a header: its number, and each of its values."""

    def __init__(self) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._headed = False

    def __call__(self, block: Rows) -> None:
        names, texts = columns(block.rows)
        if not self._headed:
            self._headed = True
            self._writer.writerow(["row", *names])
        numbered = np.arange(block.start, block.stop).astype(str)
        self._writer.writerows(zip(numbered, *texts, strict=True))


class _Npy:
    """One .npy for each block, one behind the other."""

    def __call__(self, block: Rows) -> None:
        # Not the file itself: NumPy would ask a pipe where it stands.
        file: Any = SimpleNamespace(write=sys.stdout.buffer.write)
        write_npy(file, block.rows)
        sys.stdout.buffer.flush()


class _Stats:
    """One line for each block: where it is, what is in it, and how fast rows come.

    How fast is left out of rows that were there before: that would be how fast we read.
    """

    def __init__(self) -> None:
        self._began_ns = time.time_ns()
        self._before = time.monotonic()

    def __call__(self, block: Rows) -> None:
        now = time.monotonic()
        seconds, self._before = max(now - self._before, 1e-6), now
        rate = ""
        if block.files[0].committed_ns >= self._began_ns:
            size = block.rows.nbytes / seconds / 1e6
            rate = f"  {len(block) / seconds:.3g} rows/s  {size:.3g} MB/s"
        print(
            f"rows {block.start}-{block.stop - 1}  files {len(block.files)}  {_spreads(block.rows)}"
            f"{rate}"
        )


def _spreads(rows: np.ndarray) -> str:
    found = [f"{shown(name)}  {_spread(v)}".lstrip() for name, v in numbers(rows)]
    return "  |  ".join(found) or "no numbers"


def _spread(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no finite values"
    between = f"min {short(finite.min())}  max {short(finite.max())}"
    if finite.dtype.kind == "M":
        return between
    return f"{between}  mean {short(finite.mean(dtype=np.float64))}"


_PRINTERS: dict[str, Callable[[], Callable[[Rows], None]]] = {
    "table": _Table,
    "jsonl": _Json,
    "csv": _Csv,
    "npy": _Npy,
    "stats": _Stats,
}
