"""The reader's side of an output. It hands out committed rows only, and is never in a writer's way.

It works on live, clean and crashed outputs alike, opens nothing for writing, takes no locks, and
holds one slab of rows at a time.
"""

from ingestd.tail.audit import Origin, Problem, Report, trace, verify
from ingestd.tail.files import File, Files
from ingestd.tail.live import Tail, open_tail
from ingestd.tail.opening import (
    CannotOpen,
    CutBack,
    Missing,
    NoSuchDataset,
    NotAnOutput,
    NotCommitted,
    Replaced,
    WriterGone,
)
from ingestd.tail.output import Output
from ingestd.tail.position import Position
from ingestd.tail.reader import Block
from ingestd.tail.view import Rows, View, open_view

__all__ = [
    "Block",
    "CannotOpen",
    "CutBack",
    "File",
    "Files",
    "Missing",
    "NoSuchDataset",
    "NotAnOutput",
    "NotCommitted",
    "Origin",
    "Output",
    "Position",
    "Problem",
    "Replaced",
    "Report",
    "Rows",
    "Tail",
    "View",
    "WriterGone",
    "open_tail",
    "open_view",
    "trace",
    "verify",
]
