"""The reader's side of an output. It hands out committed rows only, and is never in a writer's way.

It works on live, clean and crashed outputs alike, opens nothing for writing, takes no locks, and
holds one slab of rows at a time.
"""

from ingestd.tail.audit import Origin, Problem, Report, trace, verify
from ingestd.tail.following import follow
from ingestd.tail.handles import OtherHandle
from ingestd.tail.opening import (
    CannotOpen,
    CutBack,
    Missing,
    NoSuchDataset,
    NotAnOutput,
    NotCommitted,
)
from ingestd.tail.output import Output
from ingestd.tail.slabs import Committed, committed

__all__ = [
    "CannotOpen",
    "Committed",
    "CutBack",
    "Missing",
    "NoSuchDataset",
    "NotAnOutput",
    "NotCommitted",
    "Origin",
    "OtherHandle",
    "Output",
    "Problem",
    "Report",
    "committed",
    "follow",
    "trace",
    "verify",
]
