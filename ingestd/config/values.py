"""The small values of a config. Each is read from one line of text, or refused with a remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from ingestd.config.captures import fields
from ingestd.config.units import format_seconds, parse_seconds

INTERNAL_GROUP = "/ingestd"
"""The group of an output that holds its provenance; no dataset or attribute may stand below it."""

LEVELS: dict[str, tuple[int, int] | None] = {
    "none": None,
    "gzip": (0, 9),
    "lzf": None,
    "lz4": None,
    "zstd": (1, 22),
    "bitshuffle": None,
    "blosc": (0, 9),
    "blosc2": (0, 9),
}
"""Every compression and the range of its levels; None: it has no levels."""


@dataclass(frozen=True, slots=True)
class Settle:
    """When a drop file counts as settled: ``seconds`` for ``quiet``, ``suffix`` for ``marker``."""

    kind: Literal["closed", "renamed", "quiet", "marker"]
    seconds: float = 0.0
    suffix: str = ""

    def __str__(self) -> str:
        detail = format_seconds(self.seconds) if self.kind == "quiet" else self.suffix
        return f"{self.kind}:{detail}" if detail else self.kind


@dataclass(frozen=True, slots=True)
class After:
    """What becomes of a drop file whose rows are committed; ``directory`` only for ``move``."""

    kind: Literal["keep", "delete", "move"]
    directory: Path | None = None

    def written(self) -> str | dict[str, str]:
        """As a config says it."""
        return self.kind if self.directory is None else {"move": str(self.directory)}


@dataclass(frozen=True, slots=True)
class Compression:
    """An HDF5 filter by name; ``level`` None: the filter's own default."""

    name: str
    level: int | None = None

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}:{self.level}"


def listed(names: Iterable[str], wrong: str = "") -> str:
    """``a, b or c``, preceded by the one that ``wrong`` was probably meant to be."""
    import difflib  # late: only a mistake needs it

    known = list(names)
    near = difflib.get_close_matches(wrong, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}write " + " or ".join(filter(None, [", ".join(known[:-1]), known[-1]]))


def parse_path(value: Any) -> Path:
    """A path as written; a relative one starts at the working directory.

    :raises ValueError: it is empty, no text, or starts with a ``~`` that nobody would expand.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{value!r} is not a path; write one, in quotes if it looks like a number")
    if value.startswith("~"):
        raise ValueError(f"{value!r}: '~' is not expanded; write the whole path, like /home/...")
    return Path(value)


def parse_directory(value: Any) -> Path:
    """A path without captures.

    :raises ValueError: as ``parse_path``, or there is a brace in it.
    """
    path = parse_path(value)
    if "{" in str(path) or "}" in str(path):
        raise ValueError(
            f"{value!r}: only output, datasets and attrs may hold captures; write a fixed path"
        )
    return path


def parse_output(value: Any) -> Path:
    """A path of a file, which may hold captures.

    :raises ValueError: as ``parse_path``, or a brace belongs to no capture.
    """
    path = parse_path(value)
    fields(str(path))
    return path


def parse_settle(value: Any) -> Settle:
    """``closed``, ``renamed``, ``quiet:2s`` or ``marker:.ready``.

    :raises ValueError: it is none of them.
    """
    if isinstance(value, Settle):
        return value
    kind, colon, detail = str(value).partition(":")
    if kind in ("closed", "renamed") and not colon:
        return Settle("closed" if kind == "closed" else "renamed")
    if kind == "quiet" and detail:
        seconds = parse_seconds(detail)
        if seconds > 0:
            return Settle("quiet", seconds=seconds)
        raise ValueError(
            f"{value!r} waits for nothing; write the time it stays unchanged: quiet:2s"
        )
    if kind == "marker" and detail.strip() and not re.search(r"[/\0]", detail):
        return Settle("marker", suffix=detail)
    known = ("closed", "renamed", "quiet:2s", "marker:.ready")
    raise ValueError(f"{value!r} is no way to settle; {listed(known, str(value))}")


def parse_after(value: Any) -> After:
    """``keep``, ``delete`` or ``{move: DIR}``.

    :raises ValueError: it is none of them.
    """
    if isinstance(value, After):
        return value
    if value in ("keep", "delete"):
        return After("keep" if value == "keep" else "delete")
    if isinstance(value, dict) and list(value) == ["move"]:
        return After("move", parse_directory(value["move"]))
    raise ValueError(f"{value!r} is no fate of a done file; write keep, delete or {{move: DIR}}")


def parse_compression(value: Any) -> Compression:
    """A name of ``LEVELS``, with ``:level`` where it has levels.

    :raises ValueError: the name is unknown, it has no levels, or the level is out of range.
    """
    if isinstance(value, Compression):
        return value
    name, colon, level = str(value).partition(":")
    if name == "szip":
        raise ValueError(
            "'szip' is read from drop files, but not written: few readers have it; write gzip"
        )
    if name not in LEVELS:
        raise ValueError(f"{value!r} is no compression; {listed(LEVELS, name)}")
    if not colon:
        return Compression(name)
    levels = LEVELS[name]
    if levels is None:
        raise ValueError(f"{value!r}: {name} has no levels; write {name!r}")
    if not re.fullmatch(r"[0-9]{1,3}", level) or not levels[0] <= int(level) <= levels[1]:
        low, high = levels
        raise ValueError(f"{value!r}: {level!r} is no level of {name}; write {low} to {high}")
    return Compression(name, int(level))


FILTERS = ("shuffle", "fletcher32", "scaleoffset")
"""What may stand in ``filters`` beside a compression."""

_SHUFFLED = ("gzip", "lzf", "lz4", "zstd")


def parse_filters(value: Any) -> tuple[str, ...]:
    """A list of ``FILTERS``.

    :raises ValueError: it is none, or holds one that would not bring rows back as they were.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{value!r} is no list of filters; write one like [shuffle, fletcher32]")
    for name in value:
        if name == "nbit":
            raise ValueError(
                "'nbit' saves nothing here: NumPy's types have no unused bits; write scaleoffset, "
                "which finds for each chunk how many bits its integers need"
            )
        if name.startswith("scaleoffset:"):
            raise ValueError(
                f"{name!r} would store other values than came, and 'verify' would find each one; "
                "write scaleoffset (integers, exact), or round floats by a transform and write "
                "compression: bitshuffle"
            )
        if name not in FILTERS:
            raise ValueError(f"{name!r} is no filter; {listed(FILTERS, name)}")
    if len(set(value)) < len(value):
        raise ValueError(f"{value!r} names a filter twice; write each once")
    if "scaleoffset" in value and len(value) > 1:
        raise ValueError(f"{value!r}: scaleoffset goes with no other filter")
    return tuple(value)


def refuse_filters(filters: tuple[str, ...] | None, compression: str) -> None:
    """Nothing, for filters that go together.

    :raises ValueError: with what to write instead.
    """
    if "scaleoffset" in (filters or ()) and compression not in ("none", "gzip"):
        raise ValueError(f"scaleoffset goes with compression none or gzip, not {compression}")
    if "shuffle" in (filters or ()) and compression not in _SHUFFLED:
        raise ValueError(
            f"shuffle is for compression {' or '.join(_SHUFFLED)}; with {compression} it gains "
            "nothing; leave it out"
        )


def parse_object_path(value: str) -> str:
    """An absolute HDF5 path: ``entry//data/`` becomes ``/entry/data``.

    :raises ValueError: it names no object, leaves its group, or is ours.
    """
    parts = [part for part in value.split("/") if part]
    if "\0" in value or any(part in (".", "..") for part in parts):
        raise ValueError(f"{value!r} is no path in an HDF5 file; write one like /entry/data")
    path = "/" + "/".join(parts)
    if path == INTERNAL_GROUP or path.startswith(INTERNAL_GROUP + "/"):
        raise ValueError(
            f"{value!r} stands below {INTERNAL_GROUP}, which holds the provenance; "
            "take another group, like /entry"
        )
    return path


def absolute(path: Path) -> Path:
    """``path`` from the root, ``..`` resolved by name, without a look at the disk."""
    # Path.absolute keeps "..", Path.resolve follows links: this compares what was written.
    return Path(os.path.abspath(path))  # noqa: PTH100


PathField = Annotated[Path, PlainValidator(parse_directory), WithJsonSchema({"type": "string"})]

OutputField = Annotated[Path, PlainValidator(parse_output), WithJsonSchema({"type": "string"})]

SettleField = Annotated[
    Settle,
    PlainValidator(parse_settle),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": "^(closed|renamed|quiet:.+|marker:.+)$"}),
]

AfterField = Annotated[
    After,
    PlainValidator(parse_after),
    PlainSerializer(After.written),
    WithJsonSchema(
        {
            "oneOf": [
                {"enum": ["keep", "delete"]},
                {
                    "type": "object",
                    "properties": {
                        "move": {"type": "string", "description": "Directory of the done files."}
                    },
                    "required": ["move"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]

CompressionField = Annotated[
    Compression,
    PlainValidator(parse_compression),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(LEVELS)})(:[0-9]+)?$"}),
]
