"""Which files are handed in, as what. All mistakes are found before anything is copied."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestd.config import Config, Source
from ingestd.errors import BadFile, UsageError
from ingestd.formats.registry import suffixes
from ingestd.handin.place import is_same, open_original
from ingestd.model import shown
from ingestd.pipeline.plan import open_as_format
from ingestd.pipeline.scan import taken_by


@dataclass(frozen=True, slots=True)
class Offer:
    """A file that ``source`` would take as ``name``."""

    file: Path
    source: Source
    name: str

    @property
    def target(self) -> Path:
        """Its path in the drop directory."""
        return self.source.drop / self.name


def offers(
    config: Config, source: str | None, files: Sequence[Path], name: str | None = None
) -> list[Offer]:
    """The files, looked at: each is one that the source would take.

    :raises UsageError: with all that is wrong, a line each.
    """
    if not files:
        raise UsageError("no file is given")
    if name is not None and len(files) > 1:
        raise UsageError(f"one name, {shown(name)}, for {len(files)} files; put them one by one")
    wanted = _source(config, source)
    found = [Offer(file, wanted, name or file.name) for file in files]
    problems = [
        f"{shown(str(offer.file))}: {problem}"
        for offer in found
        if (problem := _problem(config, offer))
    ]
    problems += _same_names(found)
    if problems:
        raise UsageError("\n".join([*problems, "nothing was handed in"]))
    return found


def _source(config: Config, name: str | None) -> Source:
    if name is None and len(config.sources) == 1:
        return next(iter(config.sources.values()))
    if name is None or name not in config.sources:
        asked = "no source is named" if name is None else f"no source is called {shown(name)}"
        raise UsageError(f"{asked}; the config has: {', '.join(config.sources)}")
    return config.sources[name]


def _same_names(found: Sequence[Offer]) -> Iterator[str]:
    first: dict[str, Path] = {}
    for offer in found:
        other = first.setdefault(offer.name, offer.file)
        if other is not offer.file:
            yield (
                f"{shown(str(offer.file))}: has the name of {shown(str(other))}; "
                "put one after the other, or one under another name (--name)"
            )


def _problem(config: Config, offer: Offer) -> str | None:
    if not os.path.lexists(offer.file):
        return "there is no such file"
    return _of_name(config, offer) or _of_file(offer)


def _of_name(config: Config, offer: Offer) -> str | None:
    source, name = offer.source, offer.name
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        return f"{shown(name)!r} is no name below a drop directory; write one like 'a.npy'"
    if len(parts) > 1 and not source.recursive:
        return (
            f"source {source.name!r} does not read directories below {source.drop}; "
            "set 'recursive: true', or give a name without '/'"
        )
    if source.matcher(suffixes(source.format)).match(name) is None:
        what = f"match: {source.match}, format: {source.format}"
        return (
            f"source {source.name!r} does not take files of the name {shown(name)!r} ({what}); "
            "rename it, or give the name to use with --name"
        )
    for other in config.sources.values():
        if other is source:
            break
        taken = taken_by(other, source)
        if taken is not None and taken(name):
            return f"source {other.name!r} would take it, which stands before {source.name!r}"
    return None


def _of_file(offer: Offer) -> str | None:
    try:
        mode = offer.file.lstat().st_mode
        if stat.S_ISLNK(mode):
            return "is a symbolic link; give the file that it leads to"
        if not stat.S_ISREG(mode):
            return f"is {'a directory; give the files in it' if stat.S_ISDIR(mode) else 'no file'}"
        offer.source.target(offer.source.captures(offer.name))
        with open_original(offer.file) as file:
            open_as_format(offer.source, offer.name, file)
    except BadFile as error:
        return f"would be quarantined: {error}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    stays = offer.source.after.kind == "keep" and os.path.lexists(offer.target)
    if stays and not is_same(offer.file, offer.target):
        return (
            f"another file stays at {shown(str(offer.target))} (after: keep); "
            "give this one another name with --name"
        )
    return None
