"""From a file to a ``Config``. All mistakes are reported together, each with line and column."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ingestd.config.model import Config
from ingestd.config.problems import Location, Problem
from ingestd.config.wording import KEY, is_about_key, worded
from ingestd.errors import ConfigError

if TYPE_CHECKING:
    from ingestd.config.document import Document

DEFAULT = Path("ingestd.yaml")
CONFIG_BYTES_MAX = 2**20

BUILT_IN: Mapping[str, Any] = {
    "sources": {
        "ingest": {
            "drop": "drop",
            "output": "data/ingest.h5",
            "after": {"move": "done"},
            "quarantine": "failed",
        }
    }
}
"""The config where there is no file."""

_SMALLEST = (
    "write at least: sources: {frames: {drop: drop/frames, output: data/frames.h5}}, "
    "or run: ingestd init"
)


def config_name(path: Path | None) -> str:
    """Where ``load(path)`` reads, for messages."""
    found = _found(path)
    return "built-in config" if found is None else _printable(found)


def load(path: Path | None, more: Callable[[Config], Iterable[Problem]] | None = None) -> Config:
    """The config in ``path``; None: in ``./ingestd.yaml`` if it is there, else the built-in one.

    :param more: further checks of a config that is right so far, reported in the same form.
    :raises ConfigError: with all mistakes, each as ``path:line:column: what, and what is right``.
    """
    found = _found(path)
    if found is None:
        return Config.model_validate(BUILT_IN)
    from ingestd.config import document  # late: without a file, nobody needs YAML

    name = _printable(found)
    content = _content(found, name)
    try:
        read = document.read(content)
    except document.Unreadable as error:
        raise ConfigError([f"{name}:{error.line}:{error.column}: {error.text}"]) from None
    if read.data is None:
        raise ConfigError([f"{name}:1:1: the config is empty; {_SMALLEST}"])
    config, mistakes = _checked(read)
    if config is not None and more is not None:
        mistakes += _placed(read, more(config))
    mistakes += read.duplicates
    if mistakes or config is None:
        lines = [f"{name}:{line}:{column}: {text}" for line, column, text in sorted(set(mistakes))]
        raise ConfigError(lines)
    config._path = found
    return config


def _found(path: Path | None) -> Path | None:
    return path if path is not None else DEFAULT if os.path.lexists(DEFAULT) else None


def _content(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(
            [f"{name}: there is no such file; write one with: ingestd init -o {name}"]
        ) from None
    except OSError as error:
        raise ConfigError(
            [f"{name}: cannot be read ({error.strerror}); give a file that can, with -c"]
        ) from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError([f"{name}: is larger than 1 MiB; give a config, with -c"])
    return content


def _checked(read: Document) -> tuple[Config | None, list[tuple[int, int, str]]]:
    mistakes = [
        (*read.place(("sources", name, "name"), of_key=True), text)
        for name, text in _names_inside(read.data)
    ]
    try:
        return Config.model_validate(read.data), mistakes
    except ValidationError as error:
        wrong, problems = _sorted_out(error)
    for location, details in wrong:
        place = read.place(_raw(read.data, location), is_about_key(details))
        mistakes.append((*place, worded(location, details)))
    # The keys that are wrong hide what the others contradict: look again without them.
    pruned = [location for location, _ in wrong]
    if pruned:
        problems = [p for p in _without(read.data, pruned) if not _depends_on(p, pruned)]
    return None, mistakes + _placed(read, problems)


def _names_inside(data: Any) -> list[tuple[str, str]]:
    """Sources that hold a key ``name``, which the model has but takes from the source's key."""
    sources = data.get("sources") if isinstance(data, dict) else None
    return [
        (name, f"unknown key 'name'; the source is called {name!r} by the key above, delete it")
        for name, source in (sources.items() if isinstance(sources, dict) else ())
        if isinstance(source, dict) and "name" in source
    ]


def _sorted_out(
    error: ValidationError,
) -> tuple[list[tuple[Location, Any]], list[Problem]]:
    """Mistakes of single values with their details, and contradictions between values."""
    wrong, problems = [], []
    for details in error.errors(include_url=False):
        if details["type"] == "conflicts":
            problems += details["ctx"]["problems"]
        elif details["type"] != "default_factory_not_called":
            wrong.append((details["loc"], details))
    return wrong, problems


def _without(data: Any, locations: Iterable[Location]) -> list[Problem]:
    """Contradictions in what is left of ``data`` without ``locations``, then without the sources
    that cannot be understood without them."""
    left = copy.deepcopy(data)
    locations = list(locations)
    for _ in range(2):
        for location in locations:
            _delete(left, _raw(data, location))
        try:
            Config.model_validate(left)
        except ValidationError as error:
            wrong, problems = _sorted_out(error)
            if not wrong:
                return problems
            locations = [location[:2] for location, _ in wrong]
        else:
            return []
    return []


def _delete(data: Any, location: Location) -> None:
    for key in location[:-1]:
        data = data.get(key) if isinstance(data, dict) else None
    if location and isinstance(data, dict):
        data.pop(location[-1], None)


def _depends_on(problem: Problem, pruned: Iterable[Location]) -> bool:
    return any(
        place[: len(location)] == location
        for place in (problem.location, *problem.about)
        for location in pruned
    )


def _placed(read: Document, problems: Iterable[Problem]) -> list[tuple[int, int, str]]:
    return [
        (*read.place(_raw(read.data, problem.location), of_key=False), problem.text)
        for problem in problems
    ]


def _raw(data: Any, location: Location) -> Location:
    """``location`` with its keys as they are written: paths come normalised from the model."""
    raw: list[str | int] = []
    for key in location:
        if key == KEY:
            break
        if isinstance(data, dict) and isinstance(key, str) and key not in data:
            parts = [part for part in key.split("/") if part]
            same = (k for k in data if [part for part in k.split("/") if part] == parts)
            key = next(same, key)
        data = data.get(key) if isinstance(data, dict) else None
        raw.append(key)
    return tuple(raw)


def _printable(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace("\n", "\\n")
