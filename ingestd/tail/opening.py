"""Opens an HDF5 file for reading, in whatever state a writer has left it; says why if it cannot.

It takes no lock and changes nothing, so no writer is ever kept from starting. It and plain h5py in
the same process are not in each other's way.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import h5py

from ingestd.errors import BusyWorld, IngestdError, UsageError
from ingestd.model import shown
from ingestd.superblock import SIGNATURE

PATIENCE_SECONDS = 2.0
"""How long an attempt that may yet succeed (a writer is just opening the file anew) is repeated."""

_PAUSE_SECONDS = 0.02
_CACHE_BYTES = 1 << 20  # HDF5's default of 8 MiB only makes reading slower
_DRIVER = "ingestd"


def _apart(access: h5py.h5p.PropFAID, **_: object) -> None:
    # HDF5 shares what it knows of a file among those of one process who open it by one driver: it
    # refuses those whose locking differs, and then gives wrong rows after a refresh (h5py issue
    # 2803). This driver is the default one but for its name: flags of 0 log nothing.
    access.set_fapl_log(b"", 0, 0)


h5py.register_driver(_DRIVER, _apart)


class CannotOpen(IngestdError):
    """The file cannot be opened for reading, for the reason given."""


class Missing(CannotOpen):
    """There is no file (yet)."""


class NotAnOutput(IngestdError):
    """The file is there, but ingestd did not write it."""


class NoSuchDataset(UsageError):
    """The output has no such dataset, or several where one had to be meant."""


class NotCommitted(IngestdError):
    """The row is not there, or not final yet."""


class CutBack(BusyWorld):
    """A writer that started anew took rows back while they were read: read again."""


class Replaced(IngestdError):
    """Rows that were handed out are no longer what stands there."""


class WriterGone(BusyWorld):
    """No daemon writes the output any more."""


def opened(path: Path, patience_seconds: float) -> h5py.File:
    """The file at ``path``, for reading under SWMR; tried again for ``patience_seconds``.

    :raises Missing: there is no such file.
    :raises CannotOpen: HDF5 does not open it.
    :raises NotAnOutput: it is not an HDF5 file.
    """
    _is_hdf5_or_raise(path)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            # No lock: a reader that holds one keeps other writers of HDF5 from starting again.
            return h5py.File(
                path, "r", driver=_DRIVER, swmr=True, locking=False, rdcc_nbytes=_CACHE_BYTES
            )
        except FileNotFoundError as error:
            raise Missing(f"{named(path)}: no such file") from error
        except OSError as error:
            if time.monotonic() >= deadline:
                raise CannotOpen(f"{named(path)}: {_explained(path, error)}") from error
            time.sleep(_PAUSE_SECONDS)


def _is_hdf5_or_raise(path: Path) -> None:
    try:
        # Not blocking: opening a fifo would wait for its other end.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Missing(f"{named(path)}: no such file") from error
    except OSError as error:
        raise CannotOpen(f"{named(path)}: {error.strerror}") from error
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        # An HDF5 file may begin behind a block of the user's own, of 512 bytes or more.
        heads = (os.pread(fd, 8, at) for at in (0, 512, 1024, 2048, 4096))
        if not regular or SIGNATURE not in heads:
            raise NotAnOutput(f"{named(path)}: not an HDF5 file")
    finally:
        os.close(fd)


def _explained(path: Path, error: OSError) -> str:
    text = str(error)
    if "SWMR writing" in text or "open for write" in text:
        return (
            "a writer has it open without SWMR, or died before it turned SWMR on. "
            f"If no writer is running: ingestd repair {named(path)}"
        )
    if "truncated" in text:
        return f"it is shorter than its superblock says; restore it from a copy ({text})"
    return f"HDF5 cannot open it: {text}"


def need_filters(dataset: h5py.Dataset, where: str) -> None:
    """See to it that the dataset's filters are there; ``where`` is what errors call it.

    :raises CannotOpen: one of them is not to be had.
    """
    filters = dataset.id.get_create_plist()
    for position in range(filters.get_nfilters()):
        code, _, _, name = filters.get_filter(position)
        if not h5py.h5z.filter_avail(code):
            import hdf5plugin  # noqa: F401  late: it registers its filters, and costs 50 ms

            if not h5py.h5z.filter_avail(code):
                raise CannotOpen(
                    f"{where}: compressed with filter {code} ({name.decode(errors='replace')}), "
                    "which neither HDF5 nor hdf5plugin has. Install it, and set HDF5_PLUGIN_PATH"
                )


def named(path: Path) -> str:
    """The path as it can be printed."""
    return shown(str(path))
