"""What can go wrong, sorted by what becomes of it. Every message says where, what, and what to do.

Three kinds of failure have three fates: a bad file is quarantined, a busy world is waited out,
a broken invariant stops the process. The rest is what the user told us wrongly.
"""

from __future__ import annotations

_BRIEF_MAX = 300


class IngestdError(Exception):
    """Base of all errors meant for the user; ``exit_code`` is what a command ends with."""

    exit_code = 1


class UsageError(IngestdError):
    """The command was called wrongly."""

    exit_code = 2


class BusyWorld(IngestdError):
    """Something outside will pass (disk full, no mount, another daemon): try again."""

    exit_code = 75


class SyncFailed(BusyWorld):
    """The disk did not take what was written. The kernel may call those pages clean all the same,
    so nothing that is not committed by now can be relied on: it has to be written anew."""


class ConfigError(IngestdError):
    """The config is wrong; ``problems`` are all of its mistakes, one line each."""

    exit_code = 78

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class BrokenInvariant(IngestdError):
    """What must hold does not: going on could lose or double rows, so the process ends."""


def brief(error: Exception) -> str:
    """What a library's error says, on one printable line of bounded length."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _BRIEF_MAX else f"{text[:_BRIEF_MAX]}..."


class BadFile(IngestdError):
    """One drop file cannot be taken: it goes to quarantine with these three lines as its reason.

    ``details``, a traceback say, stand in the reason too, but are not part of the message.
    """

    def __init__(self, expected: str, found: str, remedy: str, details: str = "") -> None:
        super().__init__(f"{found}; expected {expected}. {remedy}")
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.details = details
