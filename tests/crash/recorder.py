"""Runs ``ingestd`` and keeps the ledger as it stands after each of its transactions.

    recorder.py DIRECTORY -- run --once -c x.yaml

The copies are DIRECTORY/1.sqlite, 2.sqlite, ...; DIRECTORY/marks gets a line of the same number
when each is whole.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ingestd.ledger import Ledger


def recorded(method: Callable[..., Any], directory: Path, numbers: itertools.count[int]) -> Any:
    @functools.wraps(method)
    def wrapper(ledger: Ledger, *args: Any, **keywords: Any) -> Any:
        result = method(ledger, *args, **keywords)
        number = next(numbers)
        with closing(sqlite3.connect(directory / f"{number}.sqlite")) as copy:
            ledger._db.backup(copy)
        marks = os.open(directory / "marks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(marks, f"{number}\n".encode())
        os.close(marks)
        return result

    return wrapper


def main() -> None:
    directory, _, *words = sys.argv[1:]
    numbers = itertools.count(1)
    for name in ("intend", "commit", "withdraw", "withdraw_all", "settle", "release", "adopt"):
        wrapped = recorded(getattr(Ledger, name), Path(directory), numbers)
        setattr(Ledger, name, wrapped)
    cli = importlib.import_module("ingestd.cli")
    sys.argv = ["ingestd", *words]
    cli.main()


if __name__ == "__main__":
    main()
