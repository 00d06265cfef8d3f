"""The superblock extension of an HDF5 file: where it notes its free space. Bytes in, bytes out.

What it returns differs from what it was given only in the file space message and the checksum.

Layouts: "HDF5 File Format Specification", IV.A.1.b (object header version 2 and its continuation
blocks), IV.A.2 (messages 0x10, continuation, and 0x17, file space info).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ingestd.superblock import Superblock, lookup3

HEADER_BYTES_MAX = 64 * 1024
"""No extension that HDF5 writes has a first block as long as this."""

_CONTINUATION = 0x10
_FILE_SPACE = 0x17
_PAGED = 1
_TYPES = 12


class Broken(ValueError):
    """No block of an object header stands here, or a torn one."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of an object header, checksum included; its messages start at ``first``."""

    data: bytes
    first: int
    message_header_bytes: int

    def messages(self) -> Iterator[tuple[int, int, int]]:
        """Each message: its type, where its data starts, and how many bytes that is.

        :raises ValueError: one reaches out of the block.
        """
        at, end = self.first, len(self.data) - 4
        while at + self.message_header_bytes <= end:
            size = int.from_bytes(self.data[at + 1 : at + 3], "little")
            start = at + self.message_header_bytes
            if start + size > end:
                raise Broken("a message of the superblock extension reaches out of it")
            yield self.data[at], start, size
            at = start + size


@dataclass(frozen=True, slots=True)
class FileSpace:
    """How a file keeps its free space: ``page_bytes`` is 1 unless it is allocated in pages.

    ``forgotten`` is the block that noted it, but with no saved free space; None: none was saved.
    """

    page_bytes: int
    forgotten: bytes | None


def header(data: bytes) -> Block:
    """The first block of the object header that ``data`` starts with.

    :raises Broken: there is none. :raises ValueError: it is of another version.
    """
    if data[:2] == b"\x01\0" or (data[:4] == b"OHDR" and data[4:5] != b"\x02"):
        raise ValueError("the superblock extension is not an object header of version 2")
    if data[:4] != b"OHDR" or len(data) < 16:
        raise Broken("the superblock extension is not where the superblock says")
    flags = data[5]
    width = 1 << (flags & 3)
    first = 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0) + width
    end = first + int.from_bytes(data[first - width : first], "little") + 4
    return _checked(Block(data[:end], first, 6 if flags & 4 else 4), end)


def continuation(data: bytes, of: Block) -> Block:
    """``data``, all of it, as a later block of the header whose first block is ``of``.

    :raises Broken: it is none.
    """
    if data[:4] != b"OCHK":
        raise Broken("a part of the superblock extension is not where it says")
    return _checked(Block(data, 4, of.message_header_bytes), len(data))


def _checked(block: Block, size: int) -> Block:
    stored = int.from_bytes(block.data[-4:], "little")
    if len(block.data) < size or lookup3(block.data[:-4]) != stored:
        raise Broken("the superblock extension is torn: its checksum is wrong")
    return block


def continuations(block: Block, sizes: Superblock) -> list[tuple[int, int]]:
    """Address and length in bytes of the blocks that ``block`` says it goes on in."""
    found = []
    for kind, at, _ in block.messages():
        if kind == _CONTINUATION:
            split = at + sizes.offset_size
            address = int.from_bytes(block.data[at:split], "little")
            length = int.from_bytes(block.data[split : split + sizes.length_size], "little")
            found.append((address, length))
    return found


def file_space(block: Block, sizes: Superblock) -> FileSpace | None:
    """What ``block`` says about free space; None: nothing.

    A writer takes saved free space without noting so in the file before it closes it. After a
    crash, live data stands in what the file calls free, and the next writer would overwrite it.
    Forgetting it loses nothing but the use of that space.

    :raises ValueError: in a way that this module does not know.
    """
    for kind, at, size in block.messages():
        if kind == _FILE_SPACE:
            return _file_space(block, at, size, sizes)
    return None


def _file_space(block: Block, at: int, size: int, sizes: Superblock) -> FileSpace:
    # Version, strategy, "persistent", threshold, page size, 2 bytes, then addresses: the end of
    # allocation before the free-space managers, then the managers'.
    version, strategy, persistent = block.data[at : at + 3]
    page_at = at + 3 + sizes.length_size
    addresses = page_at + sizes.length_size + 2
    managers = _TYPES if persistent else 0
    if at + size != addresses + sizes.offset_size * (1 + managers):
        raise ValueError(f"file space message of version {version} and {size} bytes is unknown")
    page_bytes = int.from_bytes(block.data[page_at : page_at + sizes.length_size], "little")
    bare = bytearray(block.data[:-4])
    # While it closes a file, HDF5 2.0 notes version 0 for this layout, then corrects itself.
    bare[at] = 1
    if persistent:
        bare[addresses : at + size] = b"\xff" * (at + size - addresses)
    new = bytes(bare) + lookup3(bytes(bare)).to_bytes(4, "little")
    return FileSpace(
        page_bytes=page_bytes if strategy == _PAGED else 1,
        forgotten=None if new == block.data else new,
    )
