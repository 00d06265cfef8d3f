"""The whole config. A ``Config`` that exists contradicts itself nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    PrivateAttr,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ingestd.config.cross import conflicts
from ingestd.config.dataset import drop_nulls
from ingestd.config.source import Source
from ingestd.config.units import MIB, Bytes, Seconds
from ingestd.config.values import PathField

MEMORY_MIN = 8 * MIB
RESERVE_MIN = 16 * MIB
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _source_name(value: str) -> str:
    if not _SOURCE_NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is no name of a source; write up to 64 letters, digits, '_', '.' or '-', "
            "the first a letter or digit"
        )
    return value


def _with_names(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if not value:
        raise ValueError("no source is named; write one, with its drop and output")
    named = {}
    for name, source in value.items():
        mapping = {} if source is None else source
        named[name] = {**mapping, "name": name} if isinstance(mapping, dict) else mapping
    return named


def _memory(size: int) -> int:
    if size < MEMORY_MIN:
        raise ValueError(f"{size} bytes are too few to decode with; write 8MiB or more")
    return size


def _scan(seconds: float) -> float:
    if not 0.01 <= seconds <= 86400:
        raise ValueError(f"{seconds:g} seconds between scans; write 10ms to 1d")
    return seconds


def _reserve(size: int) -> int:
    if 0 < size < RESERVE_MIN:
        raise ValueError(f"{size} bytes are soon used up; write 16MiB or more, or 0 for none")
    return size


def _http(value: Any) -> None:
    if value is not None:
        raise ValueError(f"http {value!r}: serving HTTP is not supported yet; write null")


class Commit(BaseModel, extra="forbid", frozen=True):
    """When rows become durable."""

    every: Seconds = Field(
        1.0,
        description="Seconds after which a visible row is durable at the latest",
        json_schema_extra={"default": "1s"},
    )
    durability: Literal["synced", "visible"] = Field(
        "synced", description="synced: fsync before a file counts as done; visible: flush only"
    )

    @model_validator(mode="before")
    @classmethod
    def _nulls(cls, data: Any) -> Any:
        return drop_nulls(data)


class Config(BaseModel, extra="forbid", frozen=True):
    """All that the daemon is told. Make one with ``load``, or with ``model_validate`` of a dict."""

    state: PathField = Field(
        Path("state"),
        description="Directory of the ledger, the lock and copies of what was repaired",
        json_schema_extra={"default": "state"},
    )
    commit: Commit = Field(
        default_factory=Commit,
        description="When rows become durable",
        json_schema_extra={"default": {}},
    )
    memory: Annotated[Bytes, AfterValidator(_memory)] = Field(
        256 * MIB,
        description="Bytes of decoded rows in flight, a hard bound",
        json_schema_extra={"default": "256MiB"},
    )
    workers: Annotated[StrictInt, Field(ge=1, le=64)] = Field(2, description="Decoding threads")
    scan: Annotated[Seconds, AfterValidator(_scan)] = Field(
        5.0,
        description="Seconds after which each drop directory is read again at the latest",
        json_schema_extra={"default": "5s"},
    )
    reserve: Annotated[Bytes, AfterValidator(_reserve)] = Field(
        0,
        description="Bytes of disk kept allocated ahead of each output's end, from 16MiB; 0: none",
    )
    http: Annotated[None, PlainValidator(_http), WithJsonSchema({"type": "null"})] = Field(
        None, description="Address of metrics, health and the status page: not supported yet"
    )
    sources: Annotated[
        dict[Annotated[StrictStr, AfterValidator(_source_name)], Source],
        BeforeValidator(_with_names),
    ] = Field(description="Sources by name: each a drop directory and the datasets it feeds")

    _path: Path | None = PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        """The file it was read from; None for the built-in config."""
        return self._path

    @model_validator(mode="before")
    @classmethod
    def _nulls(cls, data: Any) -> Any:
        return drop_nulls(data)

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        problems = conflicts(self.state, self.memory, self.sources)
        if problems:
            text = "; ".join(problem.text for problem in problems)
            raise PydanticCustomError(
                "conflicts", "{text}", {"text": text, "problems": tuple(problems)}
            )
        return self


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config; sizes in bytes, times in seconds, or with a unit.

    What it cannot say (that a dtype exists, that two keys agree) only ``load`` checks.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "ingestd config",
    }
