"""Where a row came from, and whether it is still what was written. Memory is bounded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import xxhash

from ingestd.model import RowRange, shown
from ingestd.tail.files import File, Files
from ingestd.tail.opening import NotCommitted
from ingestd.tail.output import Output
from ingestd.tail.slabs import SLAB_BYTES, Slabs

PROBLEMS_MAX = 1000
"""So many problems are kept; all are counted."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The drop file that a row came from. Times are ns since 1970 UTC, digests xxh3-128 in hex.

    ``file`` is the path below the drop directory (of a longer one the last 255 bytes), bytes that
    are not UTF-8 as surrogates: ``os.fsencode`` gives the name back. ``rows`` are those that the
    file brought, ``row_in_file`` counts from the first of them.
    """

    dataset: str
    row: int
    file: str
    source: str
    rows: RowRange
    row_in_file: int
    mtime_ns: int
    committed_ns: int
    rows_digest: str
    file_digest: str
    file_id: int
    captures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows that are not what their record says; ``file`` is the drop file they came from."""

    dataset: str
    rows: RowRange
    file: str
    source: str
    what: str

    def __str__(self) -> str:
        start, last = self.rows.start, self.rows.stop - 1
        rows = f"rows {start} to {last}" if last > start else f"row {start}"
        return (
            f"{shown(self.dataset)}: {rows} of {shown(self.file)} "
            f"(source {shown(self.source)}): {self.what}"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What was read back: files and rows of each dataset, and what differs."""

    files: dict[str, int]
    rows: dict[str, int]
    problems: tuple[Problem, ...]
    problem_count: int

    @property
    def ok(self) -> bool:
        """Whether all is as recorded."""
        return self.problem_count == 0


def trace(path: str | os.PathLike[str], dataset: str | None, row: int) -> Origin:
    """The drop file that ``row`` came from. ``dataset`` may be None if there is one only.

    :raises NotCommitted: the row is not committed; it says how many there are.
    """
    with Output(path) as output:
        return origin(output, output.resolve(dataset), row)


def origin(output: Output, dataset: str, row: int) -> Origin:
    """The drop file that ``row`` came from. Raises what :func:`trace` does."""
    file = File.of(output.find(dataset, row))
    return Origin(
        dataset=dataset,
        row=row,
        file=file.name,
        source=file.source,
        rows=file.rows,
        row_in_file=row - file.rows.start,
        mtime_ns=file.mtime_ns,
        committed_ns=file.committed_ns,
        rows_digest=file.rows_digest,
        file_digest=file.file_digest,
        file_id=file.file_id,
        captures=file.captures,
    )


def verify(
    path: str | os.PathLike[str],
    dataset: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    slab_bytes: int = SLAB_BYTES,
) -> Report:
    """Read every committed row of ``dataset`` (None: of all) back against its recorded digest.

    Also each record must begin where the one before it ends, unless rows are placed. ``progress``
    is called with the rows done and the rows there are. The file may be written meanwhile; rows
    that are committed later are left out.

    :raises CutBack: a writer started anew and took committed rows back meanwhile.
    """
    with Output(path) as output:
        names = output.datasets if dataset is None else ()
        names = names or (output.resolve(dataset),)
        ends = {name: output.committed(name) for name in names}
        counts = {name: output.count(name) for name in names}
        total, before = sum(counts.values()), 0
        files: dict[str, int] = {}
        problems: list[Problem] = []
        count = 0
        for name, end in ends.items():
            files[name] = output.last(name)[0] + 1
            for rows, problem in _checked(output, name, files[name], end, slab_bytes):
                if progress is not None:
                    progress(min(before + rows, total), total)
                count += problem is not None
                if problem is not None and len(problems) < PROBLEMS_MAX:
                    problems.append(problem)
            before += counts[name]
    return Report(files, counts, tuple(problems), count)


def _checked(
    output: Output, dataset: str, count: int, end: int, slab_bytes: int
) -> Iterator[tuple[int, Problem | None]]:
    """Rows done so far, and what is wrong if anything is, again and again."""
    slabs = Slabs(output, dataset, end, slab_bytes)
    placed, done, expected = output.placed(dataset), 0, 0
    for file in chain.from_iterable(map(Files, output.record_blocks(dataset, 0, count))):
        rows = file.rows
        if rows.start != expected and not placed:
            yield done, _problem(dataset, file, f"begins there instead of at row {expected}")
        expected = rows.stop
        digest = xxhash.xxh3_128()
        try:
            for at, piece in slabs.pieces(rows.start, rows.stop):
                _feed(digest, piece)
                yield done + at + len(piece) - rows.start, None
        except (OSError, RuntimeError, NotCommitted) as error:
            done += len(rows)
            yield done, _problem(dataset, file, f"cannot be read back: {error}")
            continue
        done += len(rows)
        if digest.hexdigest() != file.rows_digest:
            what = f"digest is {digest.hexdigest()}, recorded {file.rows_digest}"
            yield done, _problem(dataset, file, what)


def _feed(digest: xxhash.xxh3_128, rows: np.ndarray) -> None:
    if rows.size:
        digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)


def _problem(dataset: str, file: File, what: str) -> Problem:
    return Problem(dataset, file.rows, file.name, file.source, what)
