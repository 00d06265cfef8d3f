"""The progress bar of ``run --once``. It is gone when the run ends, and log lines stand above it.

A run that is soon over shows none.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from math import ceil
from typing import TYPE_CHECKING

from ingestd import journal
from ingestd.service import Service

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SHOWN_AFTER_SECONDS = 0.4
RATE_SECONDS = 3.0
"""Rates are those of the last so many seconds."""


class Rates:
    """How fast files and bytes went by over the last seconds."""

    def __init__(self, now: float) -> None:
        self._marks = deque([(now, 0, 0)])

    def note(self, now: float, files: int, bytes_: int) -> None:
        """So many were done by ``now``."""
        self._marks.append((now, files, bytes_))
        while now - self._marks[1][0] >= RATE_SECONDS:
            self._marks.popleft()

    def per_second(self) -> tuple[float, float]:
        """Files and bytes."""
        (start, files, bytes_), (now, files_now, bytes_now) = self._marks[0], self._marks[-1]
        seconds = max(now - start, 1e-9)
        return (files_now - files) / seconds, (bytes_now - bytes_) / seconds


class Bar:
    """Shows how far ``service`` is, at each ``tick``, from ``with`` to its end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._began = time.monotonic()
        self._rates = Rates(self._began)
        self._shown = contextlib.ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def tick(self) -> None:
        """Show how far it is now."""
        now = time.monotonic()
        done = self._service.progress
        files = done.done
        self._rates.note(now, files, done.bytes)
        if now - self._began < SHOWN_AFTER_SECONDS:
            return
        if self._bar is None:
            self._bar = self._show()
        waiting = self._service.flow.waiting() if self._service.flow else 0
        # Before the first file is done nobody knows how long one takes: the bar only moves.
        total = files + waiting if files else None
        rates = self._rates.per_second()
        # Files are done many at a time, with each commit: sooner, this would be a wild guess.
        knows = rates[0] and now - self._began >= RATE_SECONDS
        left = f"{shown_seconds(ceil(waiting / rates[0]))} left" if knows else ""
        what = f"{files:,} of {files + waiting:,} files" if files + waiting else "looking for files"
        self._bar.update(
            self._bar.task_ids[0],
            total=total,
            completed=files,
            description=what,
            bytes=shown_bytes(done.bytes),
            rates=shown_rates(*rates),
            left=left,
        )
        self._bar.refresh()

    def _show(self) -> Progress:
        from rich.console import Console  # late: only a terminal needs it, and a run that lasts
        from rich.progress import BarColumn, Progress, TextColumn

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[bytes]}"),
            TextColumn("{task.fields[rates]}"),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        bar.add_task("", total=None, bytes="", rates="", left="")
        self._shown.enter_context(bar)
        self._shown.enter_context(journal.lines_to(_Above(bar.console)))
        return bar


class _Above:
    """A stream whose lines come to stand above the bar, which is drawn anew below them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        self._console.print(
            text.removesuffix("\n"), markup=False, highlight=False, emoji=False, soft_wrap=True
        )
        return len(text)

    def flush(self) -> None:
        pass


def shown_bytes(count: float) -> str:
    """``85 MiB``: three digits or so, and a unit."""
    unit = "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if count < 1000:
            break
        count, unit = count / 1024, larger
    return f"{_number(count) if unit != 'bytes' else int(count)} {unit}"


def shown_rates(files: float, bytes_: float) -> str:
    """``22,000 files/s, 85 MiB/s``; only the bytes, where no file is done."""
    return (
        f"{_number(files)} files/s, {shown_bytes(bytes_)}/s"
        if files
        else f"{shown_bytes(bytes_)}/s"
    )


def shown_seconds(seconds: float) -> str:
    """``0.9 s``, or ``1:02:03`` from a minute on."""
    if seconds < 60:
        return f"{_number(seconds)} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
