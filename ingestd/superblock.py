"""The first bytes of an HDF5 file, and what to write there when a writer died. Bytes in, bytes out.

It never invents: what it returns differs from what it was given only in the consistency flags, the
end of allocation, the superblock extension where that is lost, and the checksum.

Layout: "HDF5 File Format Specification", II.A, superblock versions 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

SIGNATURE = b"\x89HDF\r\n\x1a\n"
WRITING = 1
"""Flag: a writer has the file open, or died with it open."""
SWMR = 4
"""Flag: that writer was in SWMR mode."""
SUPERBLOCK_BYTES_MAX = 12 + 4 * 8 + 4

FLAGS_AT = 11
_OFFSET_SIZES = (2, 4, 8)
_MASK = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """Checksum of HDF5 metadata: ``hashlittle`` of Bob Jenkins' lookup3.c (2006, public domain).

    HDF5 calls it ``H5_checksum_lookup3`` (H5checksum.c) and starts it at 0.
    """
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    words = [
        int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "little")
        for at in range(0, -(-len(data) // 12) * 12, 4)
    ]
    for at in range(0, len(words) - 3, 3):
        a, b, c = a + words[at], b + words[at + 1], c + words[at + 2]
        a = ((a - c) & _MASK) ^ _rotated(c, 4)
        c += b
        b = ((b - a) & _MASK) ^ _rotated(a, 6)
        a += c
        c = ((c - b) & _MASK) ^ _rotated(b, 8)
        b += a
        a = ((a - c) & _MASK) ^ _rotated(c, 16)
        c += b
        b = ((b - a) & _MASK) ^ _rotated(a, 19)
        a += c
        c = ((c - b) & _MASK) ^ _rotated(b, 4)
        b += a
    if not words:
        return c
    a, b, c = a + words[-3], b + words[-2], c + words[-1]
    c = _crossed(c, b, 14)
    a = _crossed(a, c, 11)
    b = _crossed(b, a, 25)
    c = _crossed(c, b, 16)
    a = _crossed(a, c, 4)
    b = _crossed(b, a, 14)
    return _crossed(c, b, 24)


def _rotated(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> (32 - bits)) & _MASK


def _crossed(value: int, other: int, bits: int) -> int:
    return ((value ^ other) & _MASK) - _rotated(other, bits) & _MASK


@dataclass(frozen=True, slots=True)
class Superblock:
    """A superblock of version 2 or 3. Addresses are bytes; None is HDF5's "undefined".

    ``base`` and ``eoa`` are stored as if the file had not moved since it was made: if a user block
    was put before it or taken off since, they are off by ``base - position``. ``extension`` and
    ``root`` count from the superblock.
    """

    version: int
    position: int
    offset_size: int
    length_size: int
    flags: int
    base: int
    extension: int | None
    eoa: int
    root: int
    checksum_ok: bool

    @property
    def end(self) -> int:
        """Where the allocated part of the file ends: an offset in the file as it is now."""
        return self.eoa - self.base + self.position

    def encoded(self) -> bytes:
        """These fields as they stand in a file, with a right checksum."""
        undefined = (1 << 8 * self.offset_size) - 1
        head = SIGNATURE + bytes((self.version, self.offset_size, self.length_size, self.flags))
        extension = undefined if self.extension is None else self.extension
        for address in (self.base, extension, self.eoa, self.root):
            head += address.to_bytes(self.offset_size, "little")
        return head + lookup3(head).to_bytes(4, "little")


def positions(file_size: int) -> Iterator[int]:
    """Where a superblock may start: at 0, or behind a user block of 512 * 2**n bytes."""
    position = 0
    while position + len(SIGNATURE) <= file_size:
        yield position
        position = position * 2 or 512


def version(data: bytes) -> int | None:
    """The version of the superblock that ``data`` starts with; None: it is no superblock."""
    return data[8] if data.startswith(SIGNATURE) and len(data) > 8 else None


def parse(data: bytes, position: int) -> Superblock:
    """The superblock that ``data`` starts with; ``position`` is its offset in the file.

    :raises ValueError: it is none, of a version other than 2 and 3, cut short, or nonsense.
    """
    if (found := version(data)) not in (2, 3):
        raise ValueError(f"superblock version {found} has no consistency flags")
    offset_size = data[9] if len(data) > FLAGS_AT else 0
    end = 12 + 4 * offset_size
    if offset_size not in _OFFSET_SIZES or len(data) < end + 4:
        raise ValueError(f"superblock is cut short, or its offset size {offset_size} is wrong")
    base, extension, eoa, root = (
        int.from_bytes(data[at : at + offset_size], "little") for at in range(12, end, offset_size)
    )
    return Superblock(
        version=data[8],
        position=position,
        offset_size=offset_size,
        length_size=data[10],
        flags=data[FLAGS_AT],
        base=base,
        extension=None if extension == (1 << 8 * offset_size) - 1 else extension,
        eoa=eoa,
        root=root,
        checksum_ok=lookup3(data[:end]) == int.from_bytes(data[end : end + 4], "little"),
    )


def mended(superblock: Superblock, file_size: int, page_bytes: int = 1) -> bytes | None:
    """The superblock with no flags and an end of allocation behind all of ``file_size`` bytes.

    The end is rounded up to whole pages of ``page_bytes``. It may lie behind ``file_size``; HDF5
    then refuses the file until it is extended. None: the superblock is fine as it is.
    An end under a wrong checksum is not believed: it becomes the file's size.
    """
    end = max(superblock.end if superblock.checksum_ok else 0, file_size)
    end += -end % page_bytes
    if superblock.checksum_ok and not superblock.flags and superblock.end == end:
        return None
    eoa = end - superblock.position + superblock.base
    return replace(superblock, flags=0, eoa=eoa).encoded()
