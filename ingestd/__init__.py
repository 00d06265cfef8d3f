"""Drop array files into a directory; get an HDF5 dataset that grows and survives anything."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestd.handin import NotDurable as NotDurable
    from ingestd.handin import put as put

_LATE = {"put": "ingestd.handin", "NotDurable": "ingestd.handin"}
"""What is imported only when it is asked for: each name, and its module."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATE])
