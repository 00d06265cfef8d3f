"""``.h5``: every dataset of an HDF5 file is a member, called by its path; so of NeXus and netCDF-4.

Files are read in a child process, as HDF5 crashes on some that are damaged. Values are taken as
they are stored: a netCDF variable is neither scaled nor filled in.
"""

from __future__ import annotations

from typing import BinaryIO

from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import STILL_WRITTEN, FormatOptions
from ingestd.formats.inchild import ChildFile, Reading, open_in_child
from ingestd.formats.library import RATIO_MAX, LibraryFile
from ingestd.superblock import FLAGS_AT, SIGNATURE, SWMR, WRITING, positions

STRING_BYTES_MAX = 1 << 20
_EXPECTED = "an HDF5 file that can be read"
REMEDY = (
    f"Save it again, then drop it again. {STILL_WRITTEN} If it crashed, try: ingestd repair FILE, "
    "on a copy."
)
_OTHERS = {
    b"CDF\x01": "netCDF-3",
    b"CDF\x02": "netCDF-3",
    b"CDF\x05": "netCDF-3",
    b"\x0e\x03\x13\x01": "HDF4",
}
_CONVERTED_BY = {"netCDF-3": "nccopy -k nc4 OLD NEW", "HDF4": "h4toh5convert OLD NEW"}


class Hdf5Options(FormatOptions):
    """``string_bytes``: text of variable length is taken as fields of so many bytes (UTF-8);
    longer text makes the file a bad one.

    ``ratio_max``: how many bytes of values one byte of the file may promise, above 64 MiB.
    """

    string_bytes: int | None = Field(default=None, ge=1, le=STRING_BYTES_MAX)
    ratio_max: int = Field(default=RATIO_MAX, ge=1)


class Hdf5:
    """The format ``hdf5``. A run of ``slabs`` takes one slab of memory here; the child takes a
    slab too, or up to 64 MiB where slabs do not fit the chunks, and a chunk of 256 MiB at most."""

    name: str = "hdf5"
    suffixes: tuple[str, ...] = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5", ".nc")
    extra: str | None = None
    requires: tuple[str, ...] = ()
    Options: type[FormatOptions] = Hdf5Options

    def sniff(self, head: bytes) -> bool:
        return head.startswith(SIGNATURE)

    def open(self, file: BinaryIO, options: FormatOptions) -> ChildFile:
        """Read the header of each dataset, in the child."""
        assert isinstance(options, Hdf5Options), options
        _refuse_others(file)
        opened = open_in_child(
            file,
            Reading(
                "hdf5",
                "ingestd.isolated.hdf5",
                {"string_bytes": options.string_bytes},
                _EXPECTED,
                REMEDY,
                options.ratio_max,
            ),
        )
        if not opened.members:
            raise BadFile("datasets in the file", "it has none", REMEDY)
        return opened


def begins_at(file: BinaryIO) -> int | None:
    """Where HDF5 begins: at byte 0, 512, 1024, 2048 ..., after anything; None: nowhere.

    :raises BadFile: its writer has not closed it.
    """
    # "HDF5 File Format Specification", II.A: signature, version, two sizes, consistency flags.
    source = LibraryFile(file)
    for at in positions(source.size_bytes):
        head = source.read_at(at, FLAGS_AT + 1)
        if head.startswith(SIGNATURE):
            if len(head) > FLAGS_AT and head[8] >= 3 and head[FLAGS_AT] & (WRITING | SWMR):
                raise BadFile(_EXPECTED, "its writer has not closed it, or crashed", REMEDY)
            return at
    return None


def _refuse_others(file: BinaryIO) -> None:
    found = _OTHERS.get(LibraryFile(file).read_at(0, 4))
    if found is not None:
        raise BadFile(
            "HDF5, or netCDF-4, which is HDF5",
            f"the file is {found}",
            f"Convert it, say with: {_CONVERTED_BY[found]}.",
        )
    if begins_at(file) is None:
        raise BadFile(_EXPECTED, "it has no HDF5 signature", REMEDY)
