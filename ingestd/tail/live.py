"""``ingestd.open_tail``: committed rows of a growing output, each once and in order."""

from __future__ import annotations

import asyncio
import operator
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, Self, overload

import numpy as np

from ingestd import locks
from ingestd.model import shown
from ingestd.tail.bell import Bell
from ingestd.tail.opening import PATIENCE_SECONDS, WriterGone
from ingestd.tail.position import Position
from ingestd.tail.reader import Block, How, R, Reader, Start

TICK_SECONDS = 0.05
"""How often ``stop`` is asked while nothing comes."""

_ASK_SECONDS = 1.0  # how often to ask whether a writer lives

WhenGone = Literal["ignore", "stop", "raise"]


class Event(Protocol):
    """An event of ``threading``, ``multiprocessing`` or ``asyncio``."""

    def is_set(self) -> bool:
        """Whether it has happened."""


Stop = Callable[[], bool] | Event


def is_stopped(stop: Stop | None) -> bool:
    """Whether ``stop`` says that it is time to end."""
    if stop is None:
        return False
    return stop() if callable(stop) else stop.is_set()


@overload
def open_tail(
    path: str | os.PathLike[str],
    dataset: str | None = None,
    start: Start = 0,
    *,
    whole_files: bool = True,
    timeout: float | None = None,
    stop: Stop | None = None,
    max_rows: int | None = None,
    writer_gone: WhenGone = "ignore",
    gone_seconds: float = 10.0,
    patience_seconds: float = 10.0,
) -> Tail[np.ndarray]: ...
@overload
def open_tail(
    path: str | os.PathLike[str],
    dataset: list[str] | tuple[str, ...],
    start: Start = 0,
    *,
    whole_files: bool = True,
    timeout: float | None = None,
    stop: Stop | None = None,
    max_rows: int | None = None,
    writer_gone: WhenGone = "ignore",
    gone_seconds: float = 10.0,
    patience_seconds: float = 10.0,
) -> Tail[dict[str, np.ndarray]]: ...
def open_tail(
    path: str | os.PathLike[str],
    dataset: str | list[str] | tuple[str, ...] | None = None,
    start: Start = 0,
    *,
    whole_files: bool = True,
    timeout: float | None = None,
    stop: Stop | None = None,
    max_rows: int | None = None,
    writer_gone: WhenGone = "ignore",
    gone_seconds: float = 10.0,
    patience_seconds: float = 10.0,
) -> Tail[Any]:
    """Follow ``dataset`` (None: the only one there is) of the output at ``path``.

    Gives a context manager, and an iterator (``for`` and ``async for``) of blocks with ``start``,
    ``stop``, ``rows`` and ``files``. A file or dataset that is not there yet is waited for. When
    another file takes the path, it is followed: from where we were if it holds the same rows, else
    from its beginning.

    :param dataset: a list of datasets is read in lockstep: ``rows`` is then a dict, and only files
        that feed all of them count.
    :param start: a row, -N for the last N, ``"start"`` for all, ``"end"`` for what is yet to come,
        or the ``position`` of a tail or block. Rows of a placed dataset are counted in order of
        arrival.
    :param whole_files: a block holds whole drop files, one or (if they are small) several. If
        false, large files come in pieces of about 4 MiB.
    :param timeout: the iteration ends if no new rows come for so many seconds. If the file is
        there by then but cannot be opened, it raises (after 2 s at least: that may pass).
    :param stop: a predicate or an event; the iteration ends when it is true.
    :param max_rows: no block has more rows; a file that has comes in pieces (of datasets in
        lockstep only if it has equally many rows for all).
    :param writer_gone: what to do when all rows are read and no daemon on this machine has held
        the output for ``gone_seconds``: wait on, end, or raise :class:`WriterGone`.
    :param patience_seconds: what may be passing (a writer is opening the file anew) is tried again
        for so long.

    :raises ValueError: an argument is none of these.

    The iteration raises:

    :raises NotAnOutput: the file is there, but not one of ingestd's.
    :raises NoSuchDataset: ``dataset`` is None and the output has several.
    :raises CannotOpen: HDF5 cannot open the file.
    :raises Replaced: other rows stand where rows were read.
    :raises IngestdError: it cannot be read, and trying again does not help.
    """
    single = dataset is None or isinstance(dataset, str)
    names = None if dataset is None else (dataset,) if isinstance(dataset, str) else tuple(dataset)
    if names is not None and (not names or len(set(names)) < len(names)):
        raise ValueError(f"datasets must be one or more, each once: {names}")
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"max_rows is {max_rows}, must be 1 or more")
    return Tail(
        path,
        None if names is None else tuple("/" + name.strip("/") for name in names),
        _checked(start),
        single=single,
        how=How(whole_files, max_rows, patience_seconds=patience_seconds),
        timeout=timeout,
        stop=stop,
        writer_gone=writer_gone,
        gone_seconds=gone_seconds,
    )


def _checked(start: Any) -> Start:
    if start == "start":
        return 0
    if isinstance(start, Position):
        return start
    if start == "end":
        return "end"
    try:
        row: int = operator.index(start)
        return row
    except TypeError:
        raise ValueError(
            f'start is {start!r}, must be a row, -N for the last N rows, "start", "end", or the '
            "position of a tail or block"
        ) from None


class Tail(Generic[R]):
    """What :func:`open_tail` gives. Blocks are handed out once, whichever threads ask for them.

    A forked child goes on by itself where its parent was, and gets all rows too. It pickles, as
    its arguments and its position.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        datasets: tuple[str, ...] | None,
        start: Start,
        *,
        single: bool,
        how: How,
        timeout: float | None,
        stop: Stop | None,
        writer_gone: WhenGone,
        gone_seconds: float,
    ) -> None:
        self.path = Path(path)
        self._datasets = datasets
        self._single = single
        self._how = how
        self._timeout = timeout
        self._stop = stop
        self._writer_gone = writer_gone
        self._gone_seconds = gone_seconds
        self._begin(start)

    def _begin(self, start: Start) -> None:
        self._bell = Bell()
        self._reader = Reader(self.path, self._datasets, start, self._how, self._bell)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._gone_since: float | None = None
        self._asked = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. A later ``next`` opens it again."""
        with self._locked(None):
            self._reader.close()
            self._bell.close()

    @property
    def position(self) -> Start:
        """Where to go on: after the block handed out last. Give it to ``open_tail`` as ``start``.

        It pickles. Before the output is there, it is the ``start`` that was given.
        """
        return self._reader.position

    @property
    def writer_alive(self) -> bool:
        """Whether a daemon on this machine holds the output now. It need not be writing."""
        paths = {self.path, self.path.resolve()}
        return any(locks.held(locks.output_lock(path)) for path in paths)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Block[R]:
        wait = _Wait(self._timeout, self._stop)
        while not wait.over():
            with self._locked(TICK_SECONDS) as mine:
                if not mine:
                    continue
                gone = self._is_gone()
                block = self._look()
                if block is not None:
                    self._reader.position = block.position
                    return block
                self._end_if(gone, wait)
                while not wait.over() and not self._bell.wait(wait.seconds()):
                    pass
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Block[R]:
        wait = _Wait(self._timeout, self._stop)
        while not wait.over():
            gone = await asyncio.to_thread(self._is_gone)
            # If this is cancelled, the block is read again: only who gets it moves the position.
            block = await asyncio.to_thread(self._look_locked)
            if block is not None:
                self._reader.position = block.position
                return block
            self._end_if(gone, wait)
            while not wait.over() and not await asyncio.to_thread(
                self._wait_locked, wait.seconds()
            ):
                pass
        raise StopAsyncIteration

    def __getstate__(self) -> dict[str, Any]:
        made_anew = ("_bell", "_reader", "_lock", "_pid", "_gone_since", "_asked")
        kept = {key: value for key, value in vars(self).items() if key not in made_anew}
        return {**kept, "start": self.position}

    def __setstate__(self, state: dict[str, Any]) -> None:
        start = state.pop("start")
        vars(self).update(state)
        self._begin(start)

    def _look_locked(self) -> Block[R] | None:
        with self._locked(None):
            return self._look()

    def _wait_locked(self, seconds: float) -> bool:
        with self._locked(None):
            return self._bell.wait(seconds)

    def _look(self) -> Block[Any] | None:
        block = self._reader.look()
        self._bell.looked(news=block is not None)
        if block is None:
            return None
        if not self._single:
            return block
        (rows,) = block.rows.values()
        return Block(rows, block.ranges, block.files, block.position)

    @contextmanager
    def _locked(self, seconds: float | None) -> Iterator[bool]:
        if self._pid != os.getpid():
            # The lock may be held by a thread of the parent, and the file is the parent's.
            self._begin(self.position)
        mine = self._lock.acquire(timeout=-1 if seconds is None else seconds)
        try:
            yield mine
        finally:
            if mine:
                self._lock.release()

    def _is_gone(self) -> bool:
        """Whether there has been no writer for long. To be asked before looking for rows."""
        if self._writer_gone == "ignore":
            return False
        now = time.monotonic()
        if self._gone_since is None and now - self._asked < _ASK_SECONDS:
            return False
        self._asked = now
        if self.writer_alive:
            self._gone_since = None
            return False
        if self._gone_since is None:
            self._gone_since = now
        return now - self._gone_since >= self._gone_seconds

    def _end_if(self, gone: bool, wait: _Wait) -> None:
        # Time that runs out must not hide that nothing could be looked at; but a writer may just be
        # opening the file anew.
        refused = self._reader.refused
        wait.looked = refused is None
        gone = gone and wait.looked
        patience_seconds = min(self._how.patience_seconds, PATIENCE_SECONDS)
        if refused and wait.late() and self._reader.trouble_seconds >= patience_seconds:
            raise refused
        if gone and self._writer_gone == "raise":
            raise WriterGone(
                f"{shown(str(self.path))}: all of its committed rows are read, and no daemon has "
                f"held it for {self._gone_seconds:g} s. Start one: ingestd run"
            )
        wait.ended = gone


class _Wait:
    """One wait for rows: at least one look, then until the time is over or ``stop`` is true."""

    def __init__(self, timeout: float | None, stop: Stop | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._stop = stop
        self.looked = False
        self.ended = False

    def over(self) -> bool:
        return self.ended or is_stopped(self._stop) or (self.looked and self.late())

    def late(self) -> bool:
        """Whether the time is over."""
        return self._left() <= 0

    def seconds(self) -> float:
        """How long to wait before ``over`` is asked again."""
        return max(0.0, min(TICK_SECONDS, self._left())) if self.looked else TICK_SECONDS

    def _left(self) -> float:
        return TICK_SECONDS if self._deadline is None else self._deadline - time.monotonic()
