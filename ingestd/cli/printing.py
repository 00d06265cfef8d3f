"""Prints blocks of rows to stdout: in columns for people, or for programs, without loss."""

from __future__ import annotations

import csv
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import click
import numpy as np

from ingestd.cli.values import columns, numbers
from ingestd.model import shown
from ingestd.tail import Block
from ingestd.tail.text import json_row, line, short

Rows = Block[np.ndarray]

_FILE_COLUMNS = 24


def print_blocks(blocks: Iterator[Rows], form: str) -> None:
    """Print each block as ``form`` says: table, csv, jsonl, npy or stats; at once."""
    printed: Callable[[Rows], None] = _PRINTERS[form]()
    for block in blocks:
        printed(block)
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
        np.lib.format.write_array(file, block.rows, allow_pickle=False)
        sys.stdout.buffer.flush()


class _Stats:
    """One line for each block: where it is, what is in it, and how fast rows come."""

    def __init__(self) -> None:
        self._before = time.monotonic()

    def __call__(self, block: Rows) -> None:
        now = time.monotonic()
        seconds, self._before = max(now - self._before, 1e-6), now
        print(
            f"rows {block.start}-{block.stop - 1}  files {len(block.files)}  {_spread(block.rows)}"
            f"  {len(block) / seconds:.3g} rows/s  {block.rows.nbytes / seconds / 1e6:.3g} MB/s"
        )


def _spread(rows: np.ndarray) -> str:
    values = numbers(rows)
    if values is None:
        return "no numbers"
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no finite values"
    low, mean, high = finite.min(), finite.mean(dtype=np.float64), finite.max()
    return f"min {short(low)}  max {short(high)}  mean {short(mean)}"


_PRINTERS: dict[str, Callable[[], Callable[[Rows], None]]] = {
    "table": _Table,
    "jsonl": _Json,
    "csv": _Csv,
    "npy": _Npy,
    "stats": _Stats,
}
