"""All formats by name, and which one a file is of.

A suffix decides before the content: a damaged ``.npy`` is a bad ``.npy``, nothing else. A plug-in
that is broken is named once in the log, and harms nobody.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from logging import WARNING

from pydantic import ValidationError

from ingestd.config import Config, Problem, listed
from ingestd.errors import BadFile
from ingestd.formats import Format, FormatOptions
from ingestd.formats.csv import Csv
from ingestd.formats.fits import Fits
from ingestd.formats.hdf5 import Hdf5
from ingestd.formats.image import Image
from ingestd.formats.mat import Mat
from ingestd.formats.npy import Npy
from ingestd.formats.npz import Npz
from ingestd.formats.parquet import Parquet
from ingestd.formats.raw import Raw
from ingestd.formats.tiff import Tiff
from ingestd.formats.zarr import Zarr
from ingestd.journal import event

PLUGINS = "ingestd.formats"
"""Entry points of other packages: the name of a format, and its class or instance."""

_PARTS = ("name", "suffixes", "extra", "requires", "Options", "sniff", "open")

FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Npy(),
        Zarr(),
        Npz(),
        Csv(),
        Raw(),
        Tiff(),
        Image(),
        Fits(),
        Hdf5(),
        Mat(),
        Parquet(),
    )
}
"""The built-in ones. What they need beside NumPy is imported when a file is opened."""


@functools.cache
def formats() -> Mapping[str, Format]:
    """The built-in formats, and those that other packages bring."""
    from importlib.metadata import entry_points  # late, with the plug-ins: it takes some ms

    known = dict(FORMATS)
    for point in entry_points(group=PLUGINS):
        try:
            known[point.name] = _plugin(point.name, point.load())
        except Exception as error:  # noqa: BLE001 - other people's code may raise anything
            event(
                WARNING,
                f"format {point.name!r} of {point.value} is left out: "
                f"{type(error).__name__}: {error}",
            )
    return known


def _plugin(name: str, found: object) -> Format:
    format_ = found() if isinstance(found, type) else found
    if name in FORMATS:
        raise ValueError("a built-in format has this name")
    lacking = [key for key in _PARTS if not hasattr(format_, key)]
    if lacking:
        raise TypeError(f"it has no {', '.join(lacking)}")
    assert isinstance(format_, Format)
    if format_.name != name:
        raise ValueError(f"it calls itself {format_.name!r}")
    if not issubclass(format_.Options, FormatOptions):
        raise TypeError("its Options are no FormatOptions")
    return format_


def missing(format_: Format) -> str | None:
    """How to install what ``format_`` needs, if that is not there."""
    if all(find_spec(module) for module in format_.requires):
        return None
    return f"pip install 'ingestd[{format_.extra}]'"


@functools.cache
def _served() -> frozenset[str]:
    return frozenset(s for f in formats().values() if not missing(f) for s in f.suffixes)


def suffixes(wanted: str = "auto") -> frozenset[str]:
    """What ``match: auto`` takes of a source whose format is ``wanted``; lower case, with the dot.

    Files of a format that could not be read here are left where they are.
    """
    return _served() if wanted == "auto" else frozenset(formats()[wanted].suffixes)


def choose(name: str, head: bytes, wanted: str = "auto") -> Format:
    """The format ``wanted``; with ``auto`` by the suffix of ``name``, else by ``head``.

    ``head`` is the file's first 512 bytes, or all of a shorter file.

    :raises BadFile: none claims the file, none is called ``wanted``, or it cannot be read here.
    """
    found = _find(name, head, wanted)
    install = missing(found)
    if install:
        raise BadFile(
            "a format that can be read here",
            f"the file is {found.name}, which is not installed",
            f"Install it, and restart: {install}.",
        )
    return found


def _find(name: str, head: bytes, wanted: str) -> Format:
    known = formats()
    if wanted != "auto":
        if wanted not in known:
            raise _unknown(f"the format asked for is {wanted!r}")
        return known[wanted]
    for format_ in known.values():
        if format_.suffixes and name.lower().endswith(format_.suffixes):
            return format_
    for format_ in known.values():
        if format_.sniff(head):
            return format_
    raise _unknown(f"neither the name {name!r} nor the content is of one")


def check_formats(config: Config) -> Iterator[Problem]:
    """What is wrong with the ``format`` and the ``options`` of each source."""
    for source in config.sources.values():
        name = source.format
        if name == "auto":
            if source.options:
                yield Problem(
                    source.at("options"),
                    f"options belong to one format; write format: {', '.join(formats())} too",
                )
        elif name not in formats():
            yield Problem(
                source.at("format"), f"{name!r} is no format; {listed(['auto', *formats()], name)}"
            )
        elif install := missing(formats()[name]):
            yield Problem(
                source.at("format"), f"format {name!r} needs what is not installed: {install}"
            )
        else:
            for keys, text in _wrong_options(name, source.options):
                yield Problem(source.at("options", *keys), text)


def _wrong_options(name: str, options: Mapping[str, object]) -> Iterator[tuple[list[str], str]]:
    model = formats()[name].Options
    try:
        model.model_validate(options)
    except ValidationError as error:
        known = f"{name} has {', '.join(model.model_fields) or 'no options'}"
        for found in error.errors():
            yield [str(key) for key in found["loc"]], f"{found['msg']}; {known}"


def _unknown(found: str) -> BadFile:
    return BadFile(
        f"one of the formats known: {', '.join(sorted(formats()))}",
        found,
        "Set the source's 'format' if the file is of one of them, else save it as one. Flat binary "
        "needs 'format: raw', and its 'options': dtype, shape, header.",
    )
