"""Runs ``ingestd`` and kills it (SIGKILL, by itself) at a named step. No hook in the program.

    killer.py --at ingestd.ledger:Ledger.intend:before:3 -- run --once -c x.yaml

dies on the way into the third call of ``Ledger.intend``; ``after``: on the way out of it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def kill_at(step: str) -> None:
    """Wrap the function that ``step`` (``module:qualname:before|after:N``) names.

    Call it before whatever imports the function by name.
    """
    module, qualname, when, nth = step.split(":")
    *path, name = qualname.split(".")
    owner = functools.reduce(getattr, path, importlib.import_module(module))
    setattr(owner, name, _deadly(getattr(owner, name), when, int(nth)))


def _deadly(function: Callable[..., Any], when: str, nth: int) -> Callable[..., Any]:
    assert when in ("before", "after"), when
    calls = itertools.count(1)

    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        deadly = next(calls) == nth
        if deadly and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **keywords)
        if deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapper


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--at", action="append", required=True)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    for step in given.at:
        kill_at(step)
    cli = importlib.import_module("ingestd.cli")
    sys.argv = ["ingestd", *given.words]
    cli.main()


if __name__ == "__main__":
    main()
