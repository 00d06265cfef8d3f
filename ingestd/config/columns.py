"""A list of columns as the name of one member. No other member is called so by accident."""

from __future__ import annotations

import json
from collections.abc import Sequence


def columns_key(columns: Sequence[str]) -> str:
    """The name of the member whose rows have these columns as their fields."""
    return json.dumps(list(columns), ensure_ascii=False)


def columns_of(member: str | None) -> tuple[str, ...]:
    """The columns that ``member`` lists; none, if it is the name of one member, or of none."""
    if member is None or not member.startswith('["'):
        return ()
    try:
        columns = json.loads(member)
    except ValueError:
        return ()
    return tuple(columns) if all(isinstance(name, str) for name in columns) else ()
