"""Paths with captures in them: ``data/run{run:04d}.h5``. What is filled in stays where it was put:
no file name leads out of the directory, or the group, that the config names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

Captures = Mapping[str, str | int]
"""What ``match`` captured of a file's name: text, or whole numbers."""

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:0?[0-9]{0,2}d)?\}")


def fields(template: str) -> dict[str, bool]:
    """The captures that ``template`` names, and whether each has to be a number.

    :raises ValueError: a brace belongs to none.
    """
    found = {match[1]: match[2] is not None for match in _FIELD.finditer(template)}
    rest = _FIELD.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(
            f"{template!r}: braces hold the name of a capture; write it like {{run}} or {{run:04d}}"
        )
    return found


def fill(template: str, captures: Captures) -> str:
    """``template`` with the captures in their places.

    :raises ValueError: a part of the path would lead elsewhere, or be hidden.
    """
    parts = []
    for part in template.split("/"):
        filled = _FIELD.sub(lambda match: _one(match, captures), part)
        if filled != part and (filled.startswith(".") or not filled.isprintable()):
            raise ValueError(f"{part!r} would become {filled!r}, which is no name to be given")
        parts.append(filled)
    return "/".join(parts)


def _one(match: re.Match[str], captures: Captures) -> str:
    return format(captures[match[1]], (match[2] or ":")[1:])


def wildcard(template: Path) -> str | None:
    """A ``glob`` pattern of the paths that ``template`` may become; None: it has no captures."""
    if not fields(str(template)):
        return None
    import glob  # late: only outputs with captures need it

    return "*".join(glob.escape(text) for text in _FIELD.split(str(template))[::3])
