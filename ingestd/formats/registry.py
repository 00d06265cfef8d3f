"""All formats by name, and which one a file is of.

A suffix decides before the content: a damaged ``.npy`` is a bad ``.npy``, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from ingestd.config import Config, Problem
from ingestd.errors import BadFile
from ingestd.formats import Format
from ingestd.formats.csv import Csv
from ingestd.formats.fits import Fits
from ingestd.formats.image import Image
from ingestd.formats.npy import Npy
from ingestd.formats.npz import Npz
from ingestd.formats.parquet import Parquet
from ingestd.formats.tiff import Tiff
from ingestd.formats.zarr import Zarr

FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (Npy(), Zarr(), Npz(), Csv(), Tiff(), Image(), Fits(), Parquet())
}

SUFFIXES: frozenset[str] = frozenset(
    suffix for format_ in FORMATS.values() for suffix in format_.suffixes
)
"""Lower case, with the dot. A file's suffix is compared without regard to case."""


def suffixes(wanted: str = "auto") -> frozenset[str]:
    """What ``match: auto`` takes of a source whose format is ``wanted``."""
    return SUFFIXES if wanted == "auto" else frozenset(FORMATS[wanted].suffixes)


def choose(name: str, head: bytes, wanted: str = "auto") -> Format:
    """The format ``wanted``; with ``auto`` by the suffix of ``name``, else by ``head``.

    ``head`` is the file's first 512 bytes, or all of a shorter file.

    :raises BadFile: no format claims the file, or none is called ``wanted``.
    """
    if wanted != "auto":
        if wanted not in FORMATS:
            raise _unknown(f"the format asked for is {wanted!r}")
        return FORMATS[wanted]
    for format_ in FORMATS.values():
        if name.lower().endswith(format_.suffixes):
            return format_
    for format_ in FORMATS.values():
        if format_.sniff(head):
            return format_
    raise _unknown(f"neither the name {name!r} nor the content is of one")


def check_options(config: Config) -> Iterator[Problem]:
    """What is wrong with the ``options`` of each source, as its format sees them."""
    for source in config.sources.values():
        if source.options and source.format == "auto":
            yield Problem(
                source.at("options"),
                f"options belong to one format; write format: {', '.join(FORMATS)} too",
            )
        elif source.options:
            try:
                FORMATS[source.format].Options.model_validate(source.options)
            except ValidationError as error:
                for found in error.errors():
                    keys = ("options", *map(str, found["loc"]))
                    yield Problem(
                        source.at(*keys), f"{found['msg']}; {_known_options(source.format)}"
                    )


def _known_options(format_: str) -> str:
    return f"{format_} has {', '.join(FORMATS[format_].Options.model_fields) or 'no options'}"


def _unknown(found: str) -> BadFile:
    return BadFile(
        f"one of the formats known: {', '.join(sorted(FORMATS))}",
        found,
        "Set the source's 'format' if the file is of one of them, else save it as one.",
    )
