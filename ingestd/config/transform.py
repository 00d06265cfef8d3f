"""``transform``: the steps between a file's arrays and the datasets, as the config names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

READY = "ingestd.transforms"
"""The module of the ready ones, whose functions go by their bare name."""

_FUNCTION = re.compile(r"(?:(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):)?(?P<name>[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Step:
    """One function, and the parameters that it is called with beside arrays and captures."""

    module: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    def written(self) -> str | dict[str, dict[str, Any]]:
        """As a config says it."""
        return {str(self): dict(self.parameters)} if self.parameters else str(self)


def parse_transform(value: Any) -> tuple[Step, ...]:
    """``package.module:function``, ``{package.module:function: {parameter: value}}``, or a list.

    :raises ValueError: it is none of them.
    """
    return tuple(_step(one) for one in (value if isinstance(value, list | tuple) else [value]))


def _step(value: Any) -> Step:
    if isinstance(value, Step):
        return value
    parameters: Any = {}
    if isinstance(value, dict) and len(value) == 1:
        ((value, parameters),) = value.items()
    found = _FUNCTION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{value!r} names no function; write 'package.module:function', or a ready one with "
            "its parameters, like {crop: {y: [0, 512]}}"
        )
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict) or not all(
        isinstance(name, str) and name.isidentifier() for name in parameters
    ):
        raise ValueError(f"{value!r}: {parameters!r} are no parameters; write {{name: value}}")
    return Step(found["module"] or READY, found["name"], parameters)


_STEP_SCHEMA = {
    "oneOf": [
        {"type": "string", "pattern": r"^([A-Za-z_][\w.]*:)?[A-Za-z_]\w*$"},
        {"type": "object", "minProperties": 1, "maxProperties": 1},
    ]
}

TransformField = Annotated[
    tuple[Step, ...],
    PlainValidator(parse_transform),
    PlainSerializer(lambda steps: [step.written() for step in steps]),
    WithJsonSchema({"oneOf": [*_STEP_SCHEMA["oneOf"], {"type": "array", "items": _STEP_SCHEMA}]}),
]
