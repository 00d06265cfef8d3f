"""Formats of other packages: whatever one of them does, it costs its own files only."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ingestd.config import Config
from ingestd.errors import BadFile
from ingestd.formats import FormatOptions, registry


class Toy:
    """A format that could be one; the tests change what they need."""

    name = "toy"
    suffixes: Any = (".toy",)
    extra: Any = None
    requires: Any = ()
    Options: Any = FormatOptions

    def sniff(self, head: bytes) -> bool:
        return head.startswith(b"TOY")

    def open(self, file: Any, options: FormatOptions) -> Any:
        raise BadFile("a toy", "none", "Buy one.")


class Needy(FormatOptions):
    width: int


Install = Callable[..., None]


def forget() -> None:
    registry._plugins.cache_clear()
    registry.formats.cache_clear()
    registry._served.cache_clear()
    registry._deaf.clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make entry points of the objects given: an exception is what loading raises."""

    def installed(*found: object, name: str = "toy", package: str = "toys") -> None:
        def point(what: object) -> Any:
            def load() -> object:
                if isinstance(what, BaseException):
                    raise what
                return what

            dist = SimpleNamespace(name=package)
            return SimpleNamespace(name=name, value="toys:Toy", load=load, dist=dist)

        points = [point(what) for what in found]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
        forget()

    yield installed
    monkeypatch.undo()
    forget()


def toy(**changed: Any) -> type[Toy]:
    return type("Changed", (Toy,), changed)


def raises(error: BaseException) -> Callable[..., Any]:
    def method(*_: Any) -> Any:
        raise error

    return method


def test_a_plug_in_is_a_format_like_any_other(install: Install) -> None:
    install(Toy)

    assert ".toy" in registry.suffixes()
    assert registry.choose("a.TOY", b"").name == "toy"
    assert registry.choose("no suffix", b"TOY 1").name == "toy"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (ImportError("no such thing"), "ImportError: no such thing"),
        (SystemExit(3), "SystemExit: 3"),
        (None, "TypeError: it has no name, suffixes, "),
        (toy(name="other"), "ValueError: it calls itself 'other'"),
        (toy(suffixes=[".toy"]), r"TypeError: its suffixes are \['.toy'\]; write a tuple"),
        (toy(suffixes=None), "TypeError: its suffixes are None"),
        (toy(suffixes=("",)), "TypeError: its suffixes are"),
        (toy(suffixes=("toy",)), "TypeError: its suffixes are"),
        (toy(suffixes=(".TOY",)), "TypeError: its suffixes are .*in lower case"),
        (toy(requires="scipy"), "TypeError: its requires are 'scipy'; write a tuple"),
        (toy(requires=None), "TypeError: its requires are None"),
        (toy(extra=1), "TypeError: its extra is 1"),
        (toy(Options=FormatOptions()), "TypeError: its Options are no FormatOptions"),
        (toy(Options=dict), "TypeError: its Options are no FormatOptions"),
        (toy(sniff=None), "TypeError: its sniff and open are no methods"),
        (toy(__init__=raises(OSError("no licence"))), "OSError: no licence"),
    ],
)
def test_a_broken_one_is_named_once_and_the_others_are_there(
    install: Install, caplog: pytest.LogCaptureFixture, found: object, reason: str
) -> None:
    install(found)

    for _ in range(2):
        assert registry.suffixes() >= {".npy", ".h5"}
        assert registry.choose("no suffix", b"\x93NUMPY").name == "npy"
        with pytest.raises(BadFile):
            registry.choose("a.toy", b"TOY")

    (record,) = caplog.records
    assert record.getMessage().startswith("format 'toy' of toys:Toy is left out: ")
    assert re.search(reason, record.getMessage())


def test_names_are_had_by_the_built_in_formats_then_by_the_first(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(toy(name="npy"), name="npy")
    assert registry.formats() == registry.FORMATS
    install(Toy, toy(suffixes=(".toy2",)))
    assert registry.formats()["toy"].suffixes == (".toy",)

    built_in, second = (record.getMessage() for record in caplog.records)
    assert "a built-in format has this name" in built_in
    assert "toys has a format of this name" in second


def test_one_that_cannot_tell_its_files_is_not_asked_again_and_costs_no_other_a_file(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(toy(sniff=raises(ZeroDivisionError("division by zero"))))

    for _ in range(2):
        with pytest.raises(BadFile, match="neither the name 'a' nor the content is of one"):
            registry.choose("a", b"junk")

    assert registry.choose("a.toy", b"junk").name == "toy"
    (record,) = caplog.records
    assert "'toy' cannot tell which files are its own" in record.getMessage()


@pytest.mark.parametrize(
    ("extra", "install_line"), [(None, "pip install 'toys'"), ("fast", "pip install 'toys[fast]'")]
)
def test_what_one_lacks_is_installed_with_its_own_package(
    install: Install, extra: str | None, install_line: str
) -> None:
    install(toy(requires=("no_such_module.part",), extra=extra))

    assert registry.missing(registry.formats()["toy"]) == install_line
    assert ".toy" not in registry.suffixes()
    with pytest.raises(BadFile, match="the file is toy, which is not installed"):
        registry.choose("a.toy", b"")


def test_files_that_need_options_are_left_alone_until_the_config_has_them(install: Install) -> None:
    install(toy(Options=Needy))

    assert ".toy" not in registry.suffixes()
    assert ".toy" in registry.suffixes("toy")
    assert registry.choose("a.toy", b"", "toy").name == "toy"
    with pytest.raises(BadFile, match="none, as the format is not set") as caught:
        registry.choose("a.toy", b"")
    assert caught.value.remedy == "Set 'format: toy' and these in its 'options'."


def problems(format_: str, options: dict[str, Any]) -> list[str]:
    source = {"drop": "drop", "output": "out.h5", "format": format_, "options": options}
    config = Config.model_validate({"sources": {"s": source}})
    return [problem.text for problem in registry.check_formats(config)]


@pytest.mark.parametrize(
    ("format_", "options", "text"),
    [
        ("raw", {}, "option 'dtype' of raw is missing; write options: {dtype: ...}"),
        ("raw", {"dtype": "<q9"}, "option dtype: '<q9' is no NumPy dtype"),
        ("raw", {"dtype": "u1", "shape": [0]}, "option shape: write what is greater than or equal"),
        ("hdf5", {"string_byte": 4}, "hdf5 has no option 'string_byte'; did you mean 'string_byte"),
        ("npy", {"a": 1}, "npy has no option 'a'; it has none"),
    ],
)
def test_a_wrong_option_is_said_in_words(format_: str, options: dict[str, Any], text: str) -> None:
    (found,) = problems(format_, options)

    assert found.startswith(text)
