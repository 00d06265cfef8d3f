"""Many small files alike, decoded together: the fast path. It gives what the general one would.

Once the general path has taken a file whose rows stand in it as they will in the dataset, others
whose header is the same to the byte need no decoding: their bytes are read to where the rows are
gathered (``hands``). Whatever differs in any way is left to the general path.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingestd.model import DropFile, RowType

SMALL_BYTES = 64 << 10
"""Larger files gain nothing here."""

_LIKES_MAX = 64


@dataclass(frozen=True, slots=True)
class Like:
    """What files of one suffix and size held: ``rows`` rows of ``dataset`` after ``header``."""

    header: bytes
    dataset: str
    type: RowType
    rows: int

    @property
    def data_bytes(self) -> int:
        """Bytes of one file's rows, 1 or more."""
        return self.rows * self.type.row_bytes


class Likes:
    """The files seen, by what tells them apart at a glance. Shared by the decoding threads."""

    def __init__(self) -> None:
        self._likes: dict[tuple[str, str, int], Like] = {}

    def of(self, file: DropFile) -> Like | None:
        """What ``file`` holds if its header proves to be the same."""
        return self._likes.get(_key(file))

    def learn(self, file: DropFile, like: Like) -> None:
        """``file`` was taken by the general path: take others like it together."""
        if len(self._likes) >= _LIKES_MAX:
            self._likes.clear()
        self._likes[_key(file)] = like


def _key(file: DropFile) -> tuple[str, str, int]:
    # The suffix, since the format may be chosen by it.
    return file.source, file.name.rpartition(".")[2], file.fingerprint.size
