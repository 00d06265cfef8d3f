"""Runs a command for each block of rows, one after the other. A failure is never passed over."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator

import click
import numpy as np

from ingestd.cli.values import write_npy
from ingestd.tail import Block, Files

_FILES_BYTES = 100_000
"""Linux takes 128 KiB of one variable: of more names, those that fit are given."""


def run_for_each(blocks: Iterator[Block[np.ndarray]], program: str, keep_going: bool) -> None:
    """Run ``program`` by the shell for each block: rows on stdin, where they are from around it.

    :raises SystemExit: it failed; with its exit code, or 128 + the signal that ended it.
    """
    for block in blocks:
        rows = io.BytesIO()
        write_npy(rows, block.rows)
        done = subprocess.run(
            program, shell=True, input=rows.getbuffer(), env={**os.environ, **_about(block)}
        )
        if done.returncode:
            code = done.returncode if done.returncode > 0 else 128 - done.returncode
            rows_named = f"rows {block.start} to {block.stop - 1}"
            click.echo(f"ingestd: --exec: ended with {code} on {rows_named}", err=True)
            if not keep_going:
                raise SystemExit(code)


def _about(block: Block[np.ndarray]) -> dict[str, str]:
    (dataset,) = block.ranges
    return {
        "START": str(block.start),
        "STOP": str(block.stop),
        "DATASET": dataset,
        "FILES": _names(block.files),
    }


def _names(files: Files) -> str:
    kept, left = [], _FILES_BYTES
    for file in files:
        # A line break in a name would make it two.
        name = file.name.replace("\n", "\\n")
        left -= len(os.fsencode(name)) + 1
        if left < 0:
            break
        kept.append(name)
    return "\n".join(kept)
