"""Sizes and times as people write them. What ``format_*`` writes, ``parse_*`` reads back exactly.

Sizes are whole bytes (``256MiB``, ``4GB``, ``4096``), times are seconds (``1s``, ``250ms``, ``5``).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

MIB = 2**20

_BYTE_UNITS: dict[str, int] = {
    "B": 1,
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
    "kB": 1000,
}
_SECOND_UNITS: dict[str, Decimal] = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
# Bounded digits: a number nobody means is refused before it is computed with.
_AMOUNT = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,40})?)\s*([A-Za-z]*)")
_BYTES_MAX = 2**63 - 1
_SECONDS_MAX = 10**9

_BYTES_HELP = "write a size like 256MiB, 4GB or 4096 (units: B kB MB GB TB KiB MiB GiB TiB)"
_SECONDS_HELP = "write a time like 1s, 250ms or 1d (units: us ms s min h d)"


def parse_bytes(value: Any) -> int:
    """Bytes of ``256MiB`` or of a plain whole number.

    :raises ValueError: it is no size, not whole, negative, or beyond 63 bits.
    """
    amount, unit = _split(value, "size", _BYTES_HELP)
    factor = {name.lower(): size for name, size in _BYTE_UNITS.items()}.get(unit.lower() or "b")
    if factor is None:
        raise ValueError(f"{value!r} has the unknown unit {unit!r}; {_BYTES_HELP}")
    total = amount * factor
    if total != int(total):
        raise ValueError(f"{value!r} is not a whole number of bytes; {_BYTES_HELP}")
    if total > _BYTES_MAX:
        raise ValueError(f"{value!r} is larger than any disk; {_BYTES_HELP}")
    return int(total)


def format_bytes(size: int) -> str:
    """``size`` bytes in the largest binary unit that keeps it whole, ``0`` as ``0``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTE_UNITS[unit] == 0:
            return f"{size // _BYTE_UNITS[unit]}{unit}"
    return str(size)


def parse_seconds(value: Any) -> float:
    """Seconds of ``250ms`` or of a plain number.

    :raises ValueError: it is no time, negative, not finite, or more than 10^9 seconds.
    """
    amount, unit = _split(value, "time", _SECONDS_HELP)
    factor = _SECOND_UNITS.get(unit or "s")
    if factor is None:
        raise ValueError(f"{value!r} has the unknown unit {unit!r}; {_SECONDS_HELP}")
    seconds = amount * factor
    if seconds > _SECONDS_MAX:
        raise ValueError(f"{value!r} is more than 30 years; {_SECONDS_HELP}")
    return float(seconds)


def format_seconds(seconds: float) -> str:
    """``seconds`` in the largest unit that keeps it whole, else as decimal seconds."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "min", "s", "ms", "us"):
        count = exact / _SECOND_UNITS[unit]
        if count and count == count.to_integral_value():
            return f"{int(count)}{unit}"
    return f"{exact:f}s"


def _split(value: Any, what: str, remedy: str) -> tuple[Decimal, str]:
    # bool is an int in Python, and YAML's `yes` is a bool: neither is an amount.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is not a {what}; {remedy}")
    text = value.strip() if isinstance(value, str) else f"{Decimal(repr(value)):f}"
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ValueError(f"{value!r} is not a {what}; {remedy}")
    return Decimal(found[1]), found[2]


Bytes = Annotated[
    int,
    PlainValidator(parse_bytes),
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKMGTmgt]?[iI]?[bB])?\s*$",
            "examples": ["256MiB", "4GB", 4096],
        }
    ),
]
"""A size: whole bytes, written with a unit or without."""

Seconds = Annotated[
    float,
    PlainValidator(parse_seconds),
    WithJsonSchema(
        {
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(us|ms|s|min|h|d)?\s*$",
            "examples": ["1s", "250ms", "1d", 5],
        }
    ),
]
"""A time: seconds, written with a unit or without."""
