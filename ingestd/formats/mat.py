"""``.mat``: each array of a MATLAB file (v5 to v7.3) is a member, called by its variable's name.

Both kinds give the same array, of the type and shape that MATLAB shows. v7.3 is HDF5, read slab by
slab; of the older kind a variable is unpacked whole, in a child process, up to 256 MiB.
"""

from __future__ import annotations

from typing import BinaryIO

from pydantic import Field

from ingestd.errors import BadFile
from ingestd.formats import STILL_WRITTEN, FormatOptions
from ingestd.formats.hdf5 import begins_at
from ingestd.formats.inchild import ChildFile, Reading, open_in_child
from ingestd.formats.library import RATIO_MAX

_EXPECTED = "a MATLAB file (version 5, 6, 7 or 7.3), whole"
_REMEDY = (
    "Save it again (save -v7.3 in MATLAB, or scipy.io.savemat), then drop it again. "
    f"{STILL_WRITTEN}"
)
_HEADER_BYTES = 128


class MatOptions(FormatOptions):
    """``ratio_max``: how many bytes of values one byte of the file may promise, above 64 MiB."""

    ratio_max: int = Field(default=RATIO_MAX, ge=1)


class Mat:
    """The format ``mat``. A run of ``slabs`` takes one slab of memory; the child takes the whole
    of a variable of version 7 and before, three times over, and 64 MiB of others."""

    name: str = "mat"
    suffixes: tuple[str, ...] = (".mat",)
    extra: str | None = "mat"
    requires: tuple[str, ...] = ("scipy",)
    Options: type[FormatOptions] = MatOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith(b"MATLAB") and head[126:128] in (b"IM", b"MI")

    def open(self, file: BinaryIO, options: FormatOptions) -> ChildFile:
        """Read what the file says of each variable, in the child."""
        assert isinstance(options, MatOptions), options
        size_bytes = file.seek(0, 2)
        if size_bytes < _HEADER_BYTES:
            raise BadFile(_EXPECTED, f"the file has {size_bytes} bytes", _REMEDY)
        if begins_at(file) is not None:
            reader, how = "ingestd.isolated.hdf5", {"matlab": True}
        else:
            reader, how = "ingestd.isolated.mat", {}
        opened = open_in_child(
            file, Reading("mat", reader, how, _EXPECTED, _REMEDY, options.ratio_max)
        )
        if not opened.members:
            raise BadFile("variables in the file", "it has none", _REMEDY)
        return opened
