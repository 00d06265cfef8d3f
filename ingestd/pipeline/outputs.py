"""The outputs that are open for writing. One that a capture names is opened when its first file
comes, recovered as at a start, and may be closed again when it was not used for long."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ingestd.config import Config, wildcard
from ingestd.repair import CannotRepair, inspect
from ingestd.sinks import Sink
from ingestd.sinks.hdf5_edit import journal_path

OPEN_MAX = 64
"""So many outputs stay open while nothing is written to them."""


class Outputs(Mapping[Path, Sink]):
    """Sinks by path. Only the writer's thread asks for them while it runs."""

    def __init__(
        self, sinks: dict[Path, Any], open_: Callable[[Path], Sink], close: Callable[[Path], None]
    ) -> None:
        """:param open_: opens an output that is not in ``sinks``; ``close`` closes one that was."""
        self._sinks = sinks
        self._open = open_
        self._close = close

    def __getitem__(self, path: Path) -> Sink:
        sink: Sink = self._sinks.pop(path, None) or self._open(path)
        self._sinks[path] = sink  # the one used last is the last
        return sink

    def __iter__(self) -> Iterator[Path]:
        return iter(self._sinks)

    def __len__(self) -> int:
        return len(self._sinks)

    def gone(self, path: Path) -> bool:
        """Whether one that is open was moved away, or replaced."""
        return path in self._sinks and not self._sinks[path].is_there()

    def close(self, path: Path) -> None:
        """Close one that is open; it may be opened again."""
        self._close(path)
        del self._sinks[path]

    def close_idle(self, in_use: Collection[Path]) -> None:
        """Close those not used for longest, if there are many."""
        for path in list(self._sinks)[: max(0, len(self._sinks) - OPEN_MAX)]:
            if path not in in_use:
                self.close(path)


def unclean_outputs(config: Config) -> Iterator[Path]:
    """Those that captures name and that a dead writer left: readers need them repaired.

    The pattern may take files of others too: ours have a lock, which nobody else holds now.
    """
    for source in config.sources.values():
        pattern = wildcard(source.output)
        # Path.glob takes no absolute pattern.
        for path in map(Path, glob.iglob(pattern) if pattern else ()):  # noqa: PTH207
            try:
                if journal_path(path).exists() or not inspect(path).healthy:
                    yield path
            except (CannotRepair, OSError):
                continue  # not one of ours, or gone by now
