"""Which drop files a source takes, by name. Deciding takes bounded time, whatever the name holds.

``match`` is ``auto`` (the suffixes that formats claim), a glob, or a glob with captures:
``{name}`` is text without ``/``, ``{name:d}`` a whole number, ``{name:04d}`` one of four digits or
more. ``*`` and ``?`` stop at ``/``, ``**/`` is any number of directories; case matters. A pattern
without ``/`` is held against the last part of the name, one with ``/`` against all of it.

Left alone, unless the pattern names them: hidden files and directories (a part of the name starts
with ``.`` where that part of the pattern does not start with a literal ``.``), and names that end
with ``.tmp``, ``.part``, ``.filepart`` or ``~`` where the pattern does not end with just that.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

LEFT_ALONE = (".tmp", ".part", ".filepart", "~")
"""Endings of files that somebody is still writing."""

_FREE_TEXT_MAX = 3
_WIDTH_MAX = 18
_INTEGER_MAX = 2**63 - 1

_TOKEN = re.compile(
    r"(?P<directories>\*\*/)|(?P<stars>\*+)|(?P<any>\?)|(?P<set>\[!?\]?[^\]]*\])"
    r"|(?P<brace>\{\{|\}\})|(?P<capture>\{[^{}]*\})|(?P<text>.)",
    re.DOTALL,
)
_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::(?:0?([0-9]{1,2}))?(d))?\}")


class Matcher:
    """Decides for one source's ``match``. Immutable; safe to use from several threads.

    :param suffixes: what ``auto`` takes, such as ``.npy``; compared without regard to case,
        because instruments write ``RUN1.NPY``.
    :param leave_alone: further endings that are never taken, such as those of marker files.
    :raises ValueError: the pattern cannot be read; the message says why.
    """

    def __init__(
        self, pattern: str, suffixes: Collection[str] = (), leave_alone: Collection[str] = ()
    ) -> None:
        self.pattern = pattern
        self.captures: dict[str, type[str] | type[int]] = {}
        """Type of each capture, by name."""
        self._refused = tuple(leave_alone)
        if pattern == "auto":
            self._suffixes: tuple[str, ...] | None = tuple(one.lower() for one in suffixes)
            self._refused += LEFT_ALONE
            return
        self._suffixes = None
        translation = _translate(pattern)
        self.captures = translation.captures
        self._whole_path = "/" in pattern
        self._regex = re.compile(translation.regex, re.DOTALL)
        self._refused += tuple(e for e in LEFT_ALONE if not translation.literal_end.endswith(e))

    def match(self, relative_name: str) -> dict[str, str | int] | None:
        """Captures of a name relative to the drop directory, or None: it is not for this source.

        Any name is accepted, with newlines and surrogate escapes too.
        """
        directories, base = "", relative_name
        if "/" in relative_name:
            directories, _, base = relative_name.rpartition("/")
        if base.endswith(self._refused):
            return None
        if self._suffixes is not None:
            taken = base.lower().endswith(self._suffixes)
            return {} if taken and not _hidden(relative_name) else None
        if not self._whole_path and _hidden(directories):
            return None
        found = self._regex.fullmatch(relative_name if self._whole_path else base)
        if found is None:
            return None
        captures: dict[str, str | int] = {}
        for name, text in found.groupdict().items():
            captures[name] = int(text) if self.captures[name] is int else text
            if self.captures[name] is int and int(text) > _INTEGER_MAX:
                return None
        return captures


def sample_name(pattern: str, suffix: str) -> str | None:
    """A name that ``pattern`` takes (``suffix`` for ``auto``), or None where it is hard to say."""
    if pattern == "auto":
        return f"x{suffix}"
    name = ""
    for kind, text in _tokens(pattern):
        if kind == "set":
            return None
        capture = _CAPTURE.fullmatch(text) if kind == "capture" else None
        if capture is not None:
            name += "1" * max(1, int(capture[2] or 1)) if capture[3] else "x"
        elif kind == "directories":
            continue
        else:
            name += {"text": text, "brace": text[:1]}.get(kind, "x")
    return name


@dataclass
class _Translation:
    """What a pattern means, grown token by token."""

    regex: str = ""
    captures: dict[str, type[str] | type[int]] = field(default_factory=dict)
    literal_end: str = ""
    free_texts: int = 0
    at_part_start: bool = True
    last: str = "literal"  # literal, wild, text, number or sized: the kind of the token before

    def add(self, kind: str, regex: str) -> None:
        """Add what matches differing text; it never stands for the dot of a hidden name."""
        # A number is taken whole: neither wildcard beside it may keep some of its digits.
        if self.last in ("number", "sized") and kind in ("wild", "text"):
            self.regex += "(?![0-9])"
        if self.last in ("wild", "text") and kind in ("number", "sized"):
            self.regex += "(?<![0-9])"
        self.regex += (r"(?!\.)" if self.at_part_start else "") + regex
        self.literal_end = ""
        self.at_part_start = False
        self.last = kind

    def add_directories(self) -> None:
        self.add("wild", r"(?:(?!\.)[^/]+/)*")
        self.at_part_start = True
        self.last = "literal"

    def add_literal(self, text: str) -> None:
        self.regex += re.escape(text)
        self.literal_end += text
        self.at_part_start = text == "/"
        self.last = "literal"


def _translate(pattern: str) -> _Translation:
    if not pattern or "\0" in pattern or pattern.startswith("/") or pattern.endswith("/"):
        raise ValueError(
            f"{pattern!r} can match no name below a drop directory; write auto, a glob like "
            "'*.npy', or captures like 'run{run:d}_{seq:d}.npy'"
        )
    done = _Translation()
    for kind, text in _tokens(pattern):
        if kind == "capture":
            _add_capture(done, pattern, text)
        elif kind == "directories":
            done.add_directories()
            done.free_texts += 1
        elif kind == "stars":
            done.add("wild", "[^/]*")
            done.free_texts += 1
        elif kind == "any":
            done.add("wild", "[^/]")
        elif kind == "set":
            done.add("wild", _character_set(text))
        elif text in "{}":
            raise ValueError(f"{pattern!r} has a lone {text!r}; write {text * 2!r} to mean itself")
        else:
            done.add_literal(text[:1])
    # Trying out every split of a name between many wildcards would take for ever.
    if done.free_texts > _FREE_TEXT_MAX:
        raise ValueError(
            f"{pattern!r} has {done.free_texts} of '*' and '{{text}}', at most {_FREE_TEXT_MAX} "
            "can be told apart in good time; write out more of the name, or {name:d} for numbers"
        )
    return done


def _add_capture(done: _Translation, pattern: str, text: str) -> None:
    found = _CAPTURE.fullmatch(text)
    if found is None or int(found[2] or 1) > _WIDTH_MAX:
        raise ValueError(
            f"{pattern!r}: {text!r} is no capture; write {{name}} for text, {{name:d}} for a "
            f"whole number or {{name:04d}} (up to {_WIDTH_MAX}), the name of letters, digits and _"
        )
    name, width, number = found.groups()
    if name in done.captures:
        raise ValueError(f"{pattern!r} captures {name!r} twice; give the second another name")
    kind = "text" if not number else "sized" if width else "number"
    pair = {done.last, kind}
    if pair == {"text"} or (pair <= {"number", "sized"} and pair != {"sized"}):
        raise ValueError(
            f"{pattern!r}: where {text} begins cannot be told; write text before it, or give it "
            "and the capture before it widths, like {hour:02d}{minute:02d}"
        )
    if number:
        done.add(kind, f"(?P<{name}>[0-9]{{{max(1, int(width or 1))},19}})")
        done.captures[name] = int
    else:
        done.add(kind, f"(?P<{name}>[^/]+)")
        done.captures[name] = str
        done.free_texts += 1


def _tokens(pattern: str) -> list[tuple[str, str]]:
    return [(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(pattern)]


def _character_set(text: str) -> str:
    negated = text.startswith("[!")
    inside = text[2 if negated else 1 : -1]
    escaped = re.sub(r"([\\^\[\]&~|])", r"\\\1", inside)
    regex = f"(?!/)[{'^' if negated else ''}{escaped}]"
    try:
        re.compile(regex)
    except re.error as error:
        raise ValueError(
            f"{text!r} is no set of characters ({error}); write [a-z] or [!0-9]"
        ) from None
    return regex


def _hidden(relative_name: str) -> bool:
    return relative_name[:1] == "." or "/." in relative_name
