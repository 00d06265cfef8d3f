"""What is wrong with an HDF5 file that a dead writer left, and which bytes would mend it.

It only looks. A file it finds healthy is one that would not be changed by a byte.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from ingestd import extension
from ingestd import superblock as sb
from ingestd.errors import IngestdError

_BLOCKS_MAX = 64
_LOOKS_LIKE = {
    b"\x93NUMPY": "a NumPy .npy file",
    b"PK\x03\x04": "a zip archive (an .npz file?)",
    b"\x1f\x8b": "gzip data",
    b"CDF": "a classic netCDF file",
    b"SIMPLE  =": "a FITS file",
    b"\x89PNG": "a PNG picture",
}


class CannotRepair(IngestdError):
    """This file is beyond what ``repair`` can do; the message says what else there is to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """Bytes of the file at ``offset``: as they were, and as they become. Equal in length."""

    offset: int
    old: bytes
    new: bytes


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a file, and what would mend it. Sizes and ends in bytes.

    ``end`` is where the file says that its allocated part ends (None: superblock versions 0 and
    1, which keep no mark of a writer). ``changes`` stand in the order in which to write them.
    """

    path: Path
    version: int
    flags: int
    size: int
    end: int | None
    changes: tuple[Change, ...]
    new_end: int | None
    new_size: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to change."""
        return not self.changes and self.size == self.new_size


def inspect(path: Path) -> Diagnosis:
    """What is wrong with the file at ``path``; changes nothing, and takes no heed of a live writer.

    :raises CannotRepair: as ``repair``.
    :raises OSError: the file cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return diagnose(fd, path)
    finally:
        os.close(fd)


def diagnose(fd: int, path: Path, doubt: str | None = None) -> Diagnosis:
    """As ``inspect``, of the open file ``fd``; a ``doubt`` becomes one of its warnings."""
    if not stat.S_ISREG((status := os.fstat(fd)).st_mode):
        raise CannotRepair(f"{path}: is not a regular file")
    size = status.st_size
    position, head = _found(fd, path, size)
    if (version := sb.version(head)) in (0, 1):
        return Diagnosis(path, version, 0, size, None, (), None, size, (), ())
    try:
        block = sb.parse(head, position)
    except ValueError as error:
        raise CannotRepair(f"{path}: {error}. Restore it from a copy") from None
    if not block.checksum_ok and os.pread(fd, 4, position + block.root) != b"OHDR":
        raise CannotRepair(
            f"{path}: the superblock is damaged: its checksum is wrong, and no root group is where "
            "it says. Restore it from a copy"
        )
    return _plan(fd, path, block, size, doubt)


def _plan(fd: int, path: Path, block: sb.Superblock, size: int, doubt: str | None) -> Diagnosis:
    problems, warnings = _findings(block, size)
    changes: list[Change] = []
    end = block.end
    if problems:
        try:
            pages, changes = _forgotten_space(fd, path, block)
            wanted = block
        except extension.Broken as error:
            pages, wanted = 1, replace(block, extension=None)
            problems.append(str(error))
            warnings.append(
                "the superblock extension is given up, and with it the file's own settings for "
                "free space and pages; the writer died while moving it"
            )
        if changes:
            problems.append("the free space it notes may hold live data")
        if new := sb.mended(wanted, size, pages):
            # Last: until the flags are gone, a repair that died is seen and done again.
            changes.append(Change(block.position, os.pread(fd, len(new), block.position), new))
            end = sb.parse(new, block.position).end
    return Diagnosis(
        path=path,
        version=block.version,
        flags=block.flags,
        size=size,
        end=block.end,
        changes=tuple(changes),
        new_end=end,
        new_size=max(size, end),
        problems=tuple(problems),
        warnings=tuple(warnings + ([doubt] if doubt else [])),
    )


def _findings(block: sb.Superblock, size: int) -> tuple[list[str], list[str]]:
    problems, warnings = [], []
    if block.flags:
        mode = " in SWMR mode" if block.flags & sb.SWMR else ""
        problems.append(f"marked as open by a writer{mode} (flags {block.flags:#04x})")
    if not block.checksum_ok:
        problems.append("the checksum of the superblock is wrong")
        warnings.append("the superblock was changed or damaged by something other than HDF5")
    elif block.end < size:
        problems.append(f"ends at byte {size}, but says that it ends at {block.end}")
    elif block.end > size:
        problems.append(f"is cut short: ends at byte {size}, but should at {block.end}")
        warnings.append(
            f"the last {block.end - size} bytes were never written, or are lost, and now read as "
            "zeros. A write that failed (disk full) leaves this, and nothing committed is in them; "
            "so does a copy that was cut short: then take a whole copy instead"
        )
    return problems, warnings


def _found(fd: int, path: Path, size: int) -> tuple[int, bytes]:
    for position in sb.positions(size):
        head = os.pread(fd, sb.SUPERBLOCK_BYTES_MAX, position)
        if sb.version(head) is not None:
            return position, head
    head = os.pread(fd, 512, 0)
    known = [what for magic, what in _LOOKS_LIKE.items() if head.startswith(magic)]
    if not head:
        looks = "it is empty: its writer died before HDF5 wrote anything. Delete it"
    elif not any(head):
        looks = "it starts with zeros: its first bytes were never written, or are lost"
    else:
        looks = f"it looks like {known[0]}" if known else f"it starts with {head[:16]!r}"
    raise CannotRepair(f"{path}: is not an HDF5 file; {looks}")


def _forgotten_space(fd: int, path: Path, block: sb.Superblock) -> tuple[int, list[Change]]:
    """Bytes of a page, and the changes that make the file forget what free space it has.

    :raises extension.Broken: the extension that says so is not whole.
    """
    if block.extension is None:
        return 1, []
    at = block.position + block.extension
    try:
        found = first = extension.header(os.pread(fd, extension.HEADER_BYTES_MAX, at))
        later: list[tuple[int, int]] = []
        for _ in range(_BLOCKS_MAX):
            if space := extension.file_space(found, block):
                bare = space.forgotten
                return space.page_bytes, [Change(at, found.data, bare)] if bare else []
            later += extension.continuations(found, block)
            if not later:
                return 1, []
            address, length = later.pop(0)
            at = block.position + address
            found = extension.continuation(
                os.pread(fd, min(length, extension.HEADER_BYTES_MAX), at), first
            )
        raise extension.Broken("the superblock extension does not end")
    except extension.Broken:
        raise
    except ValueError as error:
        raise CannotRepair(
            f"{path}: cannot tell whether it notes free space that now holds data: {error}. "
            "On a copy, try HDF5's own: h5clear --status --increment=0 FILE"
        ) from None
