"""A mistake in a config, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass

Location = tuple[str | int, ...]
"""Keys and list indexes that lead from the root of the config to a value."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at ``location``; ``about`` are the other values that it depends on."""

    location: Location
    text: str
    about: tuple[Location, ...] = ()
