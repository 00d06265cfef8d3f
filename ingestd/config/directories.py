"""What is written never arrives as a drop file, and no file goes to two sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ingestd.config.pattern import sample_name
from ingestd.config.problems import Location, Problem
from ingestd.config.source import FORMATS, Source
from ingestd.config.values import absolute

_SUFFIXES = [suffix for suffixes in FORMATS.values() for suffix in suffixes]


def same_files(one: Source, other: Source) -> Iterator[Problem]:
    """The two read the same drop directory, and some name would go to both."""
    for first, second in ((one, other), (other, one)):
        below = _below(second.drop, first.drop)
        if below is None or (below and not first.recursive):
            continue
        for suffix in _SUFFIXES:
            name = sample_name(second.match, suffix)
            if name is not None and _takes(first, below + name) and _takes(second, name):
                yield Problem(
                    other.at("drop"),
                    f"sources {one.name!r} and {other.name!r} would both take "
                    f"{str(second.drop / name)!r}; give each its own drop, or tell them apart "
                    "by match",
                    (*_ats(one, "drop", "match", "recursive"), *_ats(other, "match", "recursive")),
                )
                return


def same_quarantine(one: Source, other: Source) -> Iterator[Problem]:
    """Files put back from quarantine return to where they came from, so sources share none."""
    ours, theirs = one.quarantine, other.quarantine
    if _below(ours, theirs) is None and _below(theirs, ours) is None:
        return
    yield Problem(
        other.at("quarantine"),
        f"{str(theirs)!r} overlaps with {str(ours)!r} of source {one.name!r}, and files put back "
        "could not be told apart; give each source its own",
        (one.at("quarantine"),),
    )


def directory_conflicts(state: Path, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Nothing that the daemon writes may arrive in a drop directory, or be taken for a file."""
    written: list[tuple[Location, Path, str | None]] = [(("state",), state, None)]
    for source in sources.values():
        written.append((source.at("quarantine"), source.quarantine, source.name))
        if source.after.directory is not None:
            written.append((source.at("after", "move"), source.after.directory, source.name))
            if _below(source.after.directory, source.quarantine) == "":
                yield Problem(
                    source.at("quarantine"),
                    f"{str(source.quarantine)!r} is also where done files are moved; "
                    "write another directory",
                    (source.at("after"),),
                )
    for source in sources.values():
        about = _ats(source, "drop", "recursive")
        for location, directory, owner in written:
            below = _below(directory, source.drop)
            # Another source's done files may be this one's drop files: a chain of two sources.
            chained = owner not in (None, source.name) and location[-1] == "move"
            if below == "" and not chained:
                yield Problem(
                    location,
                    f"{str(directory)!r} is the drop directory of source {source.name!r}; "
                    "its files would come back; write another directory",
                    about,
                )
            elif below and source.recursive:
                yield Problem(
                    location,
                    f"{str(directory)!r} is inside {str(source.drop)!r}, which source "
                    f"{source.name!r} reads with recursive: true; write a directory outside",
                    about,
                )
    drops = [(source.at("drop"), source.drop) for source in sources.values()]
    directories = [*((location, directory) for location, directory, _ in written), *drops]
    yield from _output_conflicts(sources, directories)


def _output_conflicts(
    sources: Mapping[str, Source], directories: Sequence[tuple[Location, Path]]
) -> Iterator[Problem]:
    """An output is a file beside ``directories``, and no drop file."""
    for source in sources.values():
        at = source.at("output")
        for location, directory in directories:
            if _below(directory, source.output) is not None:
                yield Problem(
                    at,
                    f"{str(source.output)!r} is a file, yet {str(directory)!r} is a directory "
                    "there or below; write another output, such as data/frames.h5",
                    (location,),
                )
        for taker in sources.values():
            below = _below(source.output, taker.drop)
            if below and _takes(taker, below.rstrip("/")):
                yield Problem(
                    at,
                    f"{str(source.output)!r} is inside the drop directory of source "
                    f"{taker.name!r}, which would take it; write a path outside",
                    _ats(taker, "drop", "match", "recursive"),
                )


def _below(path: Path, directory: Path) -> str | None:
    """``path`` relative to ``directory`` with a slash at its end, "" for itself, None outside."""
    inner, outer = absolute(path), absolute(directory)
    if not inner.is_relative_to(outer):
        return None
    return "" if inner == outer else f"{inner.relative_to(outer)}/"


def _takes(source: Source, relative_name: str) -> bool:
    if "/" in relative_name and not source.recursive:
        return False
    return source.matcher(_SUFFIXES).match(relative_name) is not None


def _ats(source: Source, *keys: str) -> tuple[Location, ...]:
    return tuple(source.at(key) for key in keys)
