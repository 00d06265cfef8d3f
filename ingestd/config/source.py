"""One source: a drop directory and the datasets that its files feed. Defaults are filled in."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

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

from ingestd.config.dataset import Attrs, Dataset, drop_nulls
from ingestd.config.pattern import Matcher
from ingestd.config.problems import Location
from ingestd.config.values import (
    After,
    AfterField,
    PathField,
    Settle,
    SettleField,
    listed,
    parse_object_path,
)

FORMATS = ("npy", "npz", "csv", "tiff", "image", "fits", "parquet", "zarr")
"""Names that ``format`` may have, beside ``auto``."""

LATER_FORMATS = ("raw", "hdf5")
"""Names that a later version serves."""

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
    """``auto``, or a name of ``FORMATS``.

    :raises ValueError: it is neither, or one that a later version reads.
    """
    known = ("auto", *FORMATS)
    if value in LATER_FORMATS:
        raise ValueError(f"format {value!r} is not supported yet; {listed(known)}")
    if value not in known:
        raise ValueError(f"{value!r} is no format; {listed(known, str(value))}")
    return str(value)


def parse_transform(value: Any) -> None:
    """None.

    :raises ValueError: it is anything else, which a later version serves.
    """
    if value is not None:
        raise ValueError(f"transform {value!r}: transforms are not supported yet; take it out")


def parse_dataset_path(value: str) -> str:
    """A normalised path of a dataset.

    :raises ValueError: as ``parse_object_path``, and for the root, which is a group.
    """
    path = parse_object_path(value)
    if path == "/":
        raise ValueError(f"{value!r} is a group, not a dataset; write a name, like /data")
    return path


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
        str, PlainValidator(parse_format), WithJsonSchema({"enum": ["auto", *FORMATS]})
    ] = Field("auto", description="Format of the files; auto: by suffix, then by content")
    options: dict[StrictStr, Any] = Field(
        default_factory=dict, description="The format's own options"
    )
    transform: Annotated[
        None, PlainValidator(parse_transform), WithJsonSchema({"type": "null"})
    ] = Field(None, description="Function between file and datasets: not supported yet")
    output: PathField = Field(description="HDF5 file that the rows are appended to")
    datasets: Annotated[
        dict[Annotated[StrictStr, AfterValidator(parse_dataset_path)], Dataset],
        BeforeValidator(distinct_paths),
    ] = Field(
        default_factory=lambda: {"/data": Dataset()},
        description="Datasets of the output by path, all fed by each file, or none",
        json_schema_extra={"default": {"/data": {}}},
    )
    attrs: dict[Annotated[StrictStr, AfterValidator(parse_object_path)], Attrs] = Field(
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

    def at(self, *keys: str) -> Location:
        """Where ``keys`` of this source stand in the config."""
        return ("sources", self.name, *keys)

    def matcher(self, suffixes: Collection[str]) -> Matcher:
        """Decides by name; ``suffixes`` are those that formats claim. Markers are never taken."""
        marker = (self.settle.suffix,) if self.settle.kind == "marker" else ()
        return Matcher(self.match, suffixes, leave_alone=marker)
