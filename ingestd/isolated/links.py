"""The names of an HDF5 file: which paths lead to which objects.

Links are followed here, never by HDF5: nothing that this reads lies in another file, and it ends
whatever circles the links make.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import h5py

from ingestd.errors import BadFile

DATASETS_MAX = 10_000
LINKS_MAX = 100_000
_HOPS_MAX = 16

Target = int | bytes
"""Where a link leads: an address, or the path of a soft one."""


class Links:
    """All groups of an open file, and the datasets in them."""

    def __init__(self, file: h5py.h5f.FileID) -> None:
        """:raises BadFile: there are more than anybody's data has."""
        self._groups: dict[int, dict[bytes, Target]] = {}
        self._datasets: set[int] = set()
        self._steps = 0
        root = h5py.h5g.open(file, b"/")
        self._root: int = h5py.h5o.get_info(root).addr
        self._walk(root)

    def _walk(self, root: h5py.h5g.GroupID) -> None:
        found, links = [(self._root, root)], 0
        while found:
            address, group = found.pop()
            if address in self._groups:
                continue
            here = self._groups[address] = {}
            for name in sorted(group):
                links += 1
                if links > LINKS_MAX:
                    raise _too_many(f"more than {LINKS_MAX:,} links")
                kind = group.links.get_info(name).type
                if kind == h5py.h5l.TYPE_SOFT:
                    here[name] = group.links.get_val(name)
                elif kind == h5py.h5l.TYPE_HARD:
                    info = h5py.h5o.get_info(group, name)
                    here[name] = info.addr
                    if info.type == h5py.h5o.TYPE_GROUP:
                        found.append((info.addr, h5py.h5g.open(group, name)))
                    elif info.type == h5py.h5o.TYPE_DATASET:
                        self._datasets.add(info.addr)

    def datasets(self) -> Iterator[tuple[bytes, int]]:
        """Each path of a dataset, and its address: first one path of each, by hard links only.

        :raises BadFile: there are too many.
        """
        first = self._first_paths()
        if len(first) > DATASETS_MAX:
            raise _too_many(f"{len(first):,} datasets")
        yield from first.items()
        known = set(first)
        queue = deque([(b"", self._root, frozenset({self._root}))])
        while queue and len(known) < DATASETS_MAX and self._steps < LINKS_MAX:
            path, address, above = queue.popleft()
            for name, target in self._groups[address].items():
                at, here = self._follow(address, target), path + b"/" + name
                if at in self._datasets and here not in known:
                    known.add(here)
                    yield here, at
                elif at in self._groups and at not in above:
                    queue.append((here, at, above | {at}))

    def _first_paths(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        seen, queue = {self._root}, deque([(b"", self._root)])
        while queue:
            path, address = queue.popleft()
            for name, target in self._groups[address].items():
                if not isinstance(target, int) or target in seen:
                    continue
                seen.add(target)
                if target in self._groups:
                    queue.append((path + b"/" + name, target))
                elif target in self._datasets:
                    found[path + b"/" + name] = target
        return found

    def dataset(self, path: bytes) -> int | None:
        """The address of the dataset that ``path`` leads to, if it is one of this file."""
        at = self._resolve(self._root, path, 0)
        return at if at in self._datasets else None

    def _follow(self, group: int, target: Target, hops: int = 0) -> int:
        return target if isinstance(target, int) else self._resolve(group, target, hops + 1)

    def _resolve(self, group: int, path: bytes, hops: int) -> int:
        """Where ``path`` leads, -1: nowhere."""
        if hops > _HOPS_MAX:
            return -1
        at = self._root if path.startswith(b"/") else group
        for part in path.split(b"/"):
            self._steps += 1
            if part in (b"", b"."):
                continue
            target = self._groups.get(at, {}).get(part)
            if target is None or self._steps > LINKS_MAX:
                return -1
            at = self._follow(at, target, hops)
        return at


def _too_many(found: str) -> BadFile:
    return BadFile(
        f"{DATASETS_MAX:,} datasets or fewer",
        f"it has {found}",
        "Save the data to several files, or as fewer and larger datasets, then drop it again.",
    )
