"""Drop array files into a directory; get an HDF5 dataset that grows and survives anything.

To read what it wrote, as it comes: :func:`open_tail`. To look into it: :func:`open`. To hand files
in and know that their rows are durable: :func:`put`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestd.handin import NotDurable as NotDurable
    from ingestd.handin import put as put
    from ingestd.tail import Block as Block
    from ingestd.tail import Position as Position
    from ingestd.tail import Tail as Tail
    from ingestd.tail import View as View
    from ingestd.tail import open_tail as open_tail
    from ingestd.tail import open_view as open  # noqa: F401
    from ingestd.xarray import open_xarray as open_xarray

_LATE = {
    "Block": ("ingestd.tail", "Block"),
    "NotDurable": ("ingestd.handin", "NotDurable"),
    "Position": ("ingestd.tail", "Position"),
    "Tail": ("ingestd.tail", "Tail"),
    "View": ("ingestd.tail", "View"),
    "open": ("ingestd.tail", "open_view"),
    "open_tail": ("ingestd.tail", "open_tail"),
    "open_xarray": ("ingestd.xarray", "open_xarray"),
    "put": ("ingestd.handin", "put"),
}
"""What is imported only when it is used: its module, and its name there."""


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LATE[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
