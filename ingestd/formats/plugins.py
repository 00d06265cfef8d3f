"""Formats that other packages bring: entry points whose name is a format's, and whose object is its
class or instance.

One that is broken is named once in the log, and left out: what uses the others can trust them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from logging import WARNING

from ingestd.formats import Format, FormatOptions
from ingestd.journal import event

GROUP = "ingestd.formats"

_PARTS = ("name", "suffixes", "extra", "requires", "Options", "sniff", "open")


@dataclass(frozen=True, slots=True)
class Plugin:
    """``package`` is what pip calls it; its extras are those that the format may name."""

    format: Format
    package: str


def plugins(taken: Collection[str]) -> dict[str, Plugin]:
    """Those that fulfil the protocol, by name; the names of ``taken`` are not theirs to have."""
    from importlib.metadata import entry_points  # late, with the plug-ins: it takes some ms

    found: dict[str, Plugin] = {}
    for point in entry_points(group=GROUP):
        try:
            if point.name in taken:
                raise ValueError("a built-in format has this name")
            if point.name in found:
                raise ValueError(f"{found[point.name].package} has a format of this name")
            package = point.dist.name if point.dist is not None else point.module
            found[point.name] = Plugin(_checked(point.name, point.load()), package)
        # Other people's code may raise anything, and a script ends the process.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            event(
                WARNING,
                f"format {point.name!r} of {point.value} is left out: "
                f"{type(error).__name__}: {error}",
            )
    return found


def _checked(name: str, found: object) -> Format:
    format_ = found() if isinstance(found, type) else found
    lacking = [part for part in _PARTS if not hasattr(format_, part)]
    if lacking:
        raise TypeError(f"it has no {', '.join(lacking)}")
    if not isinstance(format_, Format):
        raise TypeError("its sniff and open are no methods")
    if format_.name != name:
        raise ValueError(f"it calls itself {format_.name!r}")
    if not _texts(format_.suffixes) or not all(map(_is_suffix, format_.suffixes)):
        raise TypeError(
            f"its suffixes are {format_.suffixes!r}; write a tuple in lower case, like ('.abc',)"
        )
    if not _texts(format_.requires):
        raise TypeError(f"its requires are {format_.requires!r}; write a tuple, like ('scipy',)")
    if format_.extra is not None and not isinstance(format_.extra, str):
        raise TypeError(f"its extra is {format_.extra!r}; write a name or None")
    if not isinstance(format_.Options, type) or not issubclass(format_.Options, FormatOptions):
        raise TypeError("its Options are no FormatOptions")
    return format_


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


def _is_suffix(text: str) -> bool:
    return text.startswith(".") and len(text) > 1 and text == text.lower()
