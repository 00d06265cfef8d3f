"""Files in drop directories that no source takes: they would lie there for ever, unsaid."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ingestd.config import LEFT_ALONE, Config, Source
from ingestd.formats.registry import formats, missing, suffixes
from ingestd.model import shown
from ingestd.pipeline.scan import walk

NAMES_MAX = 3


def unclaimed(config: Config) -> dict[str, list[str]]:
    """Their names by drop directory; those that wait for their end (``.part``, hidden) left out."""
    sources: dict[str, list[Source]] = {}
    for source in config.sources.values():
        sources.setdefault(os.path.abspath(source.drop), []).append(source)  # noqa: PTH100
    found = {}
    for readers in sources.values():
        names = sorted(_unclaimed(readers))
        if names:
            found[str(readers[0].drop)] = names
    return found


def _unclaimed(readers: list[Source]) -> Iterator[str]:
    matchers = [source.matcher(suffixes(source.format)) for source in readers]
    endings = LEFT_ALONE + tuple(s.settle.suffix for s in readers if s.settle.suffix)
    try:
        for entry, name in walk(readers[0].drop, any(source.recursive for source in readers)):
            hidden = any(part.startswith(".") for part in name.split("/"))
            if hidden or name.endswith(endings):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield f"{name}/"
            elif all(matcher.match(name) is None for matcher in matchers):
                yield name
    except OSError:
        return  # status says so of the source itself


def said(directory: str, names: list[str]) -> str:
    """A line for people: which, and what to do."""
    first = ", ".join(shown(name) for name in names[:NAMES_MAX])
    more = ", ..." if len(names) > NAMES_MAX else ""
    count = f"{len(names)} {'file' if len(names) == 1 else 'files'}"
    return f"{directory}: {count} that no source takes: {first}{more}. {_remedy(names[0])}"


def _remedy(name: str) -> str:
    if name.endswith(".zarr/"):
        return "A zarr store is taken as one file: zip -r -0 ../NAME.zarr.zip . in it"
    if name.endswith("/"):
        return "Set 'recursive: true' to read directories"
    for format_ in formats().values():
        install = missing(format_)
        if format_.suffixes and name.lower().endswith(format_.suffixes) and install:
            return f"To read {format_.name}: {install}, then restart"
    return "Set 'match' (and 'format') of a source to take them: ingestd check --sample FILE"
