"""One source: a drop directory and the datasets that its files feed. Defaults are filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    StrictBool,
    StrictStr,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from ingestd.config.captures import Captures, fields, fill
from ingestd.config.dataset import Attrs, Dataset, drop_nulls
from ingestd.config.pattern import Matcher
from ingestd.config.problems import Location
from ingestd.config.transform import TransformField
from ingestd.config.values import (
    After,
    AfterField,
    OutputField,
    PathField,
    Settle,
    SettleField,
    listed,
    parse_object_path,
)
from ingestd.errors import BadFile

FORMATS: Mapping[str, tuple[str, ...]] = {
    "npy": (".npy",),
    "zarr": (".zarr.zip", ".zarr"),
    "npz": (".npz",),
    "csv": (".csv", ".tsv"),
    "raw": (),
    "tiff": (".tif", ".tiff", ".btf", ".tf8"),
    "image": (".png", ".jpg", ".jpeg", ".bmp"),
    "fits": (".fits", ".fit", ".fts", ".fits.fz"),
    "hdf5": (".h5", ".hdf5", ".hdf", ".nxs", ".nx5", ".nc"),
    "mat": (".mat",),
    "parquet": (".parquet", ".pq", ".arrow", ".feather"),
}
"""Built-in formats that ``format`` may name, and the suffixes that they claim. Others come with
plug-ins, which only the formats' registry knows."""

OUTPUT_NAME_BYTES = 240
"""A name in a captured output's path has so many at most: those of hidden files beside it, more."""

LATER_KEYS = frozenset({"roll", "keep", "publish", "stream"})
"""Keys that a later version serves, of a source or of the whole config."""


def parse_match(value: Any) -> str:
    """A pattern that ``Matcher`` reads.

    :raises ValueError: it does not.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no pattern; write auto, or one in quotes, like '*.npy'")
    Matcher(value)
    return value


def parse_order(value: Any) -> str:
    """``arrival``, ``name``, ``mtime``, or a capture in braces.

    :raises ValueError: it is none of them.
    """
    if isinstance(value, dict) and len(value) == 1:
        name = next(iter(value))
        raise ValueError(f"braces without quotes are YAML's own; write order: '{{{name}}}'")
    plain = ("arrival", "name", "mtime")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no order; {listed((*plain, '{capture}'))}")
    capture = value[1:-1] if value[:1] == "{" and value[-1:] == "}" else ""
    if value not in plain and not capture.isidentifier():
        raise ValueError(f"{value!r} is no order; {listed((*plain, '{capture}'), value)}")
    return value


def parse_format(value: Any) -> str:
    """``auto``, or a format's name; whether there is one, the registry says.

    :raises ValueError: it is no name.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.-]*", value):
        raise ValueError(f"{value!r} is no format; {listed(('auto', *FORMATS), str(value))}")
    return value


def parse_dataset_path(value: str) -> str:
    """A normalised path of a dataset.

    :raises ValueError: as ``parse_object_path``, and for the root, which is a group.
    """
    path = parse_group_path(value)
    if path == "/":
        raise ValueError(f"{value!r} is a group, not a dataset; write a name, like /data")
    return path


def parse_group_path(value: str) -> str:
    """A normalised path of a group, which may hold captures.

    :raises ValueError: as ``parse_object_path``, or a brace belongs to no capture.
    """
    fields(value)
    return parse_object_path(value)


def distinct_paths(value: Any) -> Any:
    """``value``, unless it is empty or two of its keys mean the same path.

    :raises ValueError: naming the two.
    """
    if not isinstance(value, dict):
        return value
    if not value:
        raise ValueError("no dataset is named; write one, like '/data: {}', or leave this out")
    seen: dict[tuple[str, ...], str] = {}
    for key in value:
        first = seen.setdefault(tuple(part for part in key.split("/") if part), key)
        if first is not key:
            raise ValueError(f"{first!r} and {key!r} are the same dataset; merge them")
    return value


class Target(NamedTuple):
    """Where the rows of one file go: an output, its datasets and groups, all captures filled in."""

    output: Path
    datasets: Mapping[str, Dataset]
    attrs: Mapping[str, Mapping[str, Any]]


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Matcher:
    return Matcher(pattern)


class Source(BaseModel, extra="forbid", frozen=True):
    """A drop directory, which of its files are taken, how, and where their rows go."""

    name: SkipJsonSchema[StrictStr] = Field(description="The source's key in the config")
    drop: PathField = Field(description="Directory in which files are dropped")
    match: Annotated[
        str, PlainValidator(parse_match), WithJsonSchema({"type": "string", "minLength": 1})
    ] = Field(
        "auto",
        description="Names that are taken: auto (by suffix), a glob, or captures: '{run:d}.npy'",
    )
    recursive: StrictBool = Field(False, description="Whether directories below drop are read too")
    settle: SettleField = Field(
        default_factory=lambda: Settle("closed"),
        description="When a file is safe to read: closed, renamed, quiet:TIME or marker:SUFFIX",
        json_schema_extra={"default": "closed"},
    )
    order: Annotated[
        str,
        PlainValidator(parse_order),
        WithJsonSchema({"type": "string", "pattern": r"^(arrival|name|mtime|\{\w+\})$"}),
    ] = Field("arrival", description="Order of files: arrival, name, mtime, or a number captured")
    format: Annotated[
        str,
        PlainValidator(parse_format),
        WithJsonSchema({"anyOf": [{"enum": ["auto", *FORMATS]}, {"type": "string"}]}),
    ] = Field("auto", description="Format of the files; auto: by suffix, then by content")
    options: dict[StrictStr, Any] = Field(
        default_factory=dict, description="The format's own options"
    )
    transform: TransformField = Field(
        (),
        description="Function, or steps, between a file's arrays and the datasets: "
        "'package.module:function'",
        json_schema_extra={"default": None},
    )
    output: OutputField = Field(
        description="HDF5 file that the rows are appended to; may hold captures, as "
        "data/run{run:04d}.h5"
    )
    datasets: Annotated[
        dict[Annotated[StrictStr, AfterValidator(parse_dataset_path)], Dataset],
        BeforeValidator(distinct_paths),
    ] = Field(
        default_factory=lambda: {"/data": Dataset()},
        description="Datasets of the output by path, all fed by each file, or none",
        json_schema_extra={"default": {"/data": {}}},
    )
    attrs: dict[Annotated[StrictStr, AfterValidator(parse_group_path)], Attrs] = Field(
        default_factory=dict, description="Attributes of groups, by the group's path"
    )
    after: AfterField = Field(
        default_factory=lambda data: After("move", Path("done") / data["name"]),
        description="Fate of a file whose rows are committed; default {move: done/<source>}",
    )
    quarantine: PathField = Field(
        default_factory=lambda data: Path("failed") / data["name"],
        description="Directory of files that cannot be taken; default failed/<source>",
    )
    duplicates: Literal["skip", "append", "quarantine"] = Field(
        "skip", description="What to do with a file whose content was seen before"
    )

    @model_validator(mode="before")
    @classmethod
    def _nulls(cls, data: Any) -> Any:
        return drop_nulls(data)

    @property
    def order_capture(self) -> str | None:
        """Name of the capture that gives the order, or None: order is a word."""
        return self.order[1:-1] if self.order.startswith("{") else None

    @cached_property
    def fixed(self) -> bool:
        """Whether all files feed the same datasets, each file's rows after the last one's."""
        templates = (str(self.output), *self.datasets, *self.attrs)
        return not self.placed and not any(map(fields, templates))

    @cached_property
    def placed(self) -> bool:
        """Whether a capture says where the rows of a file stand."""
        return any(dataset.place_capture for dataset in self.datasets.values())

    def captures(self, name: str) -> Captures:
        """What ``match`` captures of a drop file's name."""
        matcher = _matcher(self.match)
        return (matcher.captures and matcher.match(name)) or {}

    def target(self, captures: Captures) -> Target:
        """Where the rows of a file with these captures go.

        :raises BadFile: one of them would lead elsewhere.
        """
        if self.fixed:
            return Target(self.output, self.datasets, self.attrs)
        try:
            target = Target(
                Path(fill(str(self.output), captures)),
                {parse_object_path(fill(p, captures)): d for p, d in self.datasets.items()},
                {parse_object_path(fill(p, captures)): a for p, a in self.attrs.items()},
            )
            self._refuse_target(target)
            return target
        except (ValueError, KeyError) as error:
            raise BadFile(
                f"a name that {self.match!r} takes, and whose captures can be part of a path",
                str(error) if isinstance(error, ValueError) else f"nothing captured as {error}",
                "Rename the file, or take the capture out of 'output' and 'datasets'",
            ) from None

    def _refuse_target(self, target: Target) -> None:
        """:raises ValueError: datasets fall together, or the output has a name too long."""
        if len(target.datasets) < len(self.datasets):
            raise ValueError(f"two of its datasets would be one: {', '.join(target.datasets)}")
        if any(len(os.fsencode(part)) > OUTPUT_NAME_BYTES for part in target.output.parts):
            raise ValueError(f"'output' would become {str(target.output)!r}, a name too long")

    def at(self, *keys: str) -> Location:
        """Where ``keys`` of this source stand in the config."""
        return ("sources", self.name, *keys)

    def matcher(self, suffixes: Collection[str]) -> Matcher:
        """Decides by name; ``suffixes`` are those that formats claim. Markers are never taken."""
        marker = (self.settle.suffix,) if self.settle.kind == "marker" else ()
        return Matcher(self.match, suffixes, leave_alone=marker)
