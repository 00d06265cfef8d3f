"""All formats by name, and which one a file is of.

A suffix decides before the content: a damaged ``.npy`` is a bad ``.npy``, nothing else. Built-in
formats come before plug-ins, which cost other formats no file, whatever they do.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from logging import WARNING
from typing import Any

from pydantic import ValidationError

from ingestd.config import Config, Problem, listed, worded
from ingestd.errors import BadFile
from ingestd.formats import Format
from ingestd.formats.csv import Csv
from ingestd.formats.fits import Fits
from ingestd.formats.hdf5 import Hdf5
from ingestd.formats.image import Image
from ingestd.formats.mat import Mat
from ingestd.formats.npy import Npy
from ingestd.formats.npz import Npz
from ingestd.formats.parquet import Parquet
from ingestd.formats.plugins import Plugin, plugins
from ingestd.formats.raw import Raw
from ingestd.formats.tiff import Tiff
from ingestd.formats.zarr import Zarr
from ingestd.journal import event

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


_deaf: set[str] = set()
"""Plug-ins that failed to tell whether a file is theirs: said once, and not asked again."""


@functools.cache
def _plugins() -> Mapping[str, Plugin]:
    return plugins(FORMATS)


@functools.cache
def formats() -> Mapping[str, Format]:
    """The built-in formats, and those that other packages bring."""
    return {**FORMATS, **{name: plugin.format for name, plugin in _plugins().items()}}


def missing(format_: Format) -> str | None:
    """How to install what ``format_`` needs, if that is not there."""
    if all(map(_is_there, format_.requires)):
        return None
    builtin = format_.name in FORMATS
    package = "ingestd" if builtin else _plugins()[format_.name].package
    return f"pip install '{package}{f'[{format_.extra}]' if format_.extra else ''}'"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except Exception:  # noqa: BLE001 - of "a.b" it imports a, which may be missing, or broken
        return False


@functools.cache
def _served() -> frozenset[str]:
    served = (f for f in formats().values() if not missing(f) and not _needed(f))
    return frozenset(suffix for format_ in served for suffix in format_.suffixes)


def _needed(format_: Format) -> list[str]:
    """Its options that have no default: without them it reads nothing."""
    return [key for key, field in format_.Options.model_fields.items() if field.is_required()]


def suffixes(wanted: str = "auto") -> frozenset[str]:
    """What ``match: auto`` takes of a source whose format is ``wanted``; lower case, with the dot.

    Files that could not be read here, or not without options, are left where they are.
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
    needed = _needed(found) if wanted == "auto" else []
    if needed:
        raise BadFile(
            f"the options that {found.name} needs: {', '.join(needed)}",
            "none, as the format is not set",
            f"Set 'format: {found.name}' and these in its 'options'.",
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
        if _claims(format_, head):
            return format_
    raise _unknown(f"neither the name {name!r} nor the content is of one")


def _claims(format_: Format, head: bytes) -> bool:
    if format_.name in FORMATS:
        return format_.sniff(head)
    try:
        return format_.name not in _deaf and bool(format_.sniff(head))
    except Exception as error:  # noqa: BLE001 - other people's code may raise anything
        _deaf.add(format_.name)
        event(
            WARNING,
            f"format {format_.name!r} cannot tell which files are its own, and is taken by suffix "
            f"or name only: {type(error).__name__}: {error}",
        )
        return False


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
        for found in error.errors():
            keys = [str(key) for key in found["loc"]]
            yield keys, _worded(name, list(model.model_fields), keys[0] if keys else "", found)


def _worded(name: str, known: list[str], key: str, found: Mapping[str, Any]) -> str:
    if found["type"] == "missing" and len(found["loc"]) == 1:
        return f"option {key!r} of {name} is missing; write options: {{{key}: ...}}"
    if found["type"] == "extra_forbidden" and len(found["loc"]) == 1:
        right = listed(known, key) if known else "it has none"
        return f"{name} has no option {key!r}; {right}"
    return f"option {worded((key,), found)}"


def _unknown(found: str) -> BadFile:
    return BadFile(
        f"one of the formats known: {', '.join(sorted(formats()))}",
        found,
        "Set the source's 'format' if the file is of one of them, else save it as one. Flat binary "
        "needs 'format: raw', and its 'options': dtype, shape, header.",
    )
