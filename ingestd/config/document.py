"""YAML with a line and a column for each value. Reading ends soon, whatever the text holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from ingestd.config.problems import Location

VALUES_MAX = 100_000
DEPTH_MAX = 50
_MERGE = "tag:yaml.org,2002:merge"
_MAPPING, _SEQUENCE = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
# A config means text by these: a date would come out as an object, 1:30 as a number of base 60.
_AS_TEXT = ("tag:yaml.org,2002:timestamp",)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


@dataclass
class Document:
    """A YAML text as plain data, and where its parts stand (lines and columns from 1)."""

    data: Any = None
    duplicates: list[tuple[int, int, str]] = field(default_factory=list)
    """Keys that stand twice in one mapping: line, column, what is wrong."""
    keys: dict[Location, tuple[int, int]] = field(default_factory=dict)
    values: dict[Location, tuple[int, int]] = field(default_factory=dict)

    def place(self, location: Location, of_key: bool) -> tuple[int, int]:
        """Line and column of what stands at ``location``, else of the nearest above it."""
        if of_key and location in self.keys:
            return self.keys[location]
        for end in range(len(location), 0, -1):
            places = self.values if end == len(location) else self.keys
            if location[:end] in places:
                return places[location[:end]]
        return self.values.get((), (1, 1))


class Unreadable(Exception):
    """The text is no YAML: one mistake, at a line and column from 1."""

    def __init__(self, line: int, column: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.column = column
        self.text = text


def read(content: bytes) -> Document:
    """The YAML document in ``content``, which is bounded by the caller.

    :raises Unreadable: it is not UTF-8, not YAML, nested too deep, or unfolds without end.
    """
    text = _decoded(content)
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        document = Document()
        if node is not None:
            document.data = _Builder(loader, document).build(node, ())
    except yaml.reader.ReaderError as error:
        line, column = _line_column(text[: error.position])
        raise Unreadable(
            line, column, f"the character U+{error.character:04X} is not allowed in YAML; delete it"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise Unreadable(line, column, _explained(error, text, line)) from None
    except RecursionError:
        raise Unreadable(1, 1, "the lists and mappings are nested too deep; flatten them") from None
    finally:
        if loader is not None:
            loader.dispose()
    return document


class _Builder:
    """Turns nodes into data, with a bound on how far aliases may unfold."""

    def __init__(self, loader: yaml.SafeLoader, document: Document) -> None:
        self._loader = loader
        self._document = document
        self._values_left = VALUES_MAX
        self._open: set[int] = set()

    def build(self, node: yaml.Node, at: Location) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise _marked(node, f"aliases unfold to more than {VALUES_MAX} values; write them out")
        if len(at) > DEPTH_MAX:
            raise _marked(node, f"this is nested deeper than {DEPTH_MAX} levels; flatten it")
        if id(node) in self._open:
            raise _marked(node, "an alias holds itself; write the value out")
        self._document.values[at] = _mark(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in (_MAPPING, _SEQUENCE):
            raise _marked(node, f"the tag {node.tag!r} is not allowed; take it out")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, at)
            return [self.build(child, (*at, index)) for index, child in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        # What is merged in comes first, so that the mapping's own keys win.
        for key, value in node.value:
            if key.tag == _MERGE:
                data.update(self._merged(value, at))
        own: dict[str, tuple[int, int]] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _marked(key, "a key is one word or text, not a list or mapping; quote it")
            self._scalar(key)
            name = key.value
            if name in own:
                text = f"{name!r} is already set in line {own[name][0]}; delete one of the two"
                self._document.duplicates.append((*_mark(key), text))
                continue
            own[name] = _mark(key)
            self._document.keys[(*at, name)] = own[name]
            data[name] = self.build(value, (*at, name))
        return data

    def _merged(self, node: yaml.Node, at: Location) -> dict[str, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for one in reversed(nodes):
            if not isinstance(one, yaml.MappingNode):
                raise _marked(one, "'<<' merges mappings only; give it an alias of one")
            merged.update(self.build(one, at))
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in node.value):
            raise _marked(node, "the text holds a NUL or half a character; write it without")
        if node.tag in _AS_TEXT or (node.tag in _NUMBERS and ":" in node.value):
            return node.value
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise _marked(node, f"{node.value[:40]!r} cannot be read ({error})") from None


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _marked(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _explained(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    problem = str(error.problem or error.context)
    lines = text.splitlines()
    value = lines[line - 1].partition(":")[2].strip() if line <= len(lines) else ""
    undefined = problem.startswith("found undefined alias")
    grammar = isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError)
    if value and (undefined or grammar):
        if value[0] in "*&!%@`[{>|" and not (value[0] in "[{" and value[-1] in "]}"):
            return f"{value[0]!r} is a sign of YAML's own; put the text in quotes: '{value}'"
        if "\t" in lines[line - 1]:
            return f"{problem}; indent with spaces, not tabs"
    if isinstance(error, yaml.constructor.ConstructorError):
        return problem if ";" in problem else f"{problem}; take it out"
    return f"this is not YAML ({problem}); indent with spaces, and quote text with signs in it"


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _line_column(content[: error.start].decode("utf-8", "replace"))
        raise Unreadable(
            line, column, f"the byte 0x{content[error.start]:02x} is not UTF-8; save it as UTF-8"
        ) from None


def _line_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
