"""pydantic's findings in this project's words: what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ingestd.config.dataset import Dataset
from ingestd.config.model import Commit, Config
from ingestd.config.problems import Location
from ingestd.config.source import LATER_KEYS, Source
from ingestd.config.values import listed

KEY = "[key]"
"""How pydantic says that a mapping's key is meant, not its value."""

_EXPECTED = {
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text; put it in quotes",
    "dict_type": "a mapping, lines of 'key: value'",
    "model_type": "a mapping, lines of 'key: value'",
    "model_attributes_type": "a mapping, lines of 'key: value'",
}
_SHOWN_MAX = 60


def is_about_key(details: Mapping[str, Any]) -> bool:
    """Whether the key itself is wrong, so that it should be pointed at."""
    return details["type"] in ("extra_forbidden", "missing") or details["loc"][-1:] == (KEY,)


def worded(location: Location, details: Mapping[str, Any]) -> str:
    """One line for one of ``ValidationError.errors()``."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    key = str(location[-1]) if location else ""
    if kind == "extra_forbidden":
        return _unknown(location, key)
    if kind == "missing":
        fields = _model(location[:-1]).model_fields
        return f"{key!r} is missing; write it: {fields[key].description}"
    if kind == "value_error":
        said = str(context["error"])
        plain = not key or key == KEY or said.startswith(f"{key} ")
        return said if plain else f"{key}: {said}"
    if kind == "literal_error":
        choices = [choice for choice in str(context["expected"]).split("'") if choice.isalnum()]
        choices = [choice for choice in choices if choice != "or"]
        return f"{key}: {_shown(value)} is not known; {listed(choices, str(value))}"
    if kind in _EXPECTED:
        what = f"{key}: found {_shown(value)}" if key else f"found {_shown(value)}"
        return f"{what}; write {_EXPECTED[kind]}"
    found = "" if isinstance(value, dict | list) else f", not {_shown(value)}"
    wish = str(details["msg"]).removeprefix("Input should be ")
    return f"{key}: write what is {wish}{found}"


def _unknown(location: Location, key: str) -> str:
    model = _model(location[:-1])
    if key in LATER_KEYS and model in (Config, Source):
        return f"{key!r} is not supported yet; take it out"
    known = [name for name in model.model_fields if (model, name) != (Source, "name")]
    return f"unknown key {key!r}; {listed(known, key)}"


def _model(location: Location) -> type[BaseModel]:
    """The model whose keys stand directly below ``location``."""
    if location == ("commit",):
        return Commit
    if location[:1] == ("sources",) and len(location) == 2:
        return Source
    if location[:1] == ("sources",) and len(location) == 4 and location[2] == "datasets":
        return Dataset
    return Config


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 3]}..."
