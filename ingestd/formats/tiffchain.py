"""The chain of page directories of a TIFF, followed to its end before a library is asked.

Libraries take a directory that is missing or damaged for the end of the file: here it is refused.

Format: TIFF 6.0 section 2; BigTIFF: https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import struct

from ingestd.formats.library import LibraryFile

MAGICS = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")
TAGS_MAX = 4096
"""Real pages have 10 to 100."""

_VALUE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
    18: 8,
}  # fmt: skip


def check_chain(source: LibraryFile) -> None:
    """Refuse a chain of which a directory, or a value that one points to, is not in the file.

    :raises ValueError: the file is cut short or damaged.
    """
    head = source.read_at(0, 16)
    order = "<" if head.startswith(b"II") else ">"
    big = head[:4] in MAGICS[2:]
    # The number of tags, one tag (code, type, count, value or offset), the offset of the next.
    count, tag, pointer = (order + "Q", order + "HHQQ", order + "Q") if big else (
        order + "H", order + "HHLL", order + "L"
    )  # fmt: skip
    inline_bytes = 8 if big else 4
    (offset,) = struct.unpack_from(pointer, head, 8 if big else 4)
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise ValueError(f"page {len(seen)} points back to one before it")
        seen.add(offset)
        (tags,) = struct.unpack(count, source.read_at(offset, struct.calcsize(count)))
        if not 0 < tags <= TAGS_MAX:
            raise ValueError(f"page {len(seen) - 1} has {tags:,} tags")
        tags_bytes = tags * struct.calcsize(tag)
        data = source.read(tags_bytes + struct.calcsize(pointer))
        for code, kind, values, where in struct.iter_unpack(tag, data[:tags_bytes]):
            size_bytes = values * _VALUE_BYTES.get(kind, 1)
            if size_bytes > inline_bytes and where + size_bytes > source.size_bytes:
                raise ValueError(f"tag {code} of page {len(seen) - 1} ends after the file")
        (offset,) = struct.unpack_from(pointer, data, tags_bytes)
    if not seen:
        raise ValueError("it has no pages")
