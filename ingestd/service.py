"""The service: builds the flow, starts, supervises and stops it; owns the signals.

A failed write is a crash without the restart: the flow ends, the outputs are recovered, and a
new flow begins, as often as it takes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

from ingestd import locks
from ingestd.config import Config, load, wildcard
from ingestd.errors import BrokenInvariant, BusyWorld, ConfigError, SyncFailed
from ingestd.journal import event
from ingestd.ledger import Ledger
from ingestd.ledger_schema import LEDGER
from ingestd.notify import sd_notify
from ingestd.pipeline.commit import Progress
from ingestd.pipeline.flow import Flow
from ingestd.pipeline.outputs import Outputs, unclean_outputs
from ingestd.pipeline.recover import recover
from ingestd.pipeline.transform import check_parts, modules_anew
from ingestd.sinks.hdf5 import Hdf5Sink

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""How long to wait before each new try in a busy world; the last goes on for ever."""

TICK_SECONDS = 0.1

HEALTHY_SECONDS = 10.0
"""A flow that has run for so long, or committed a file, has outlived what it waited for."""

MALLOC = {-8: 1, -3: 32 << 20, -1: 256 << 20}
"""M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of <malloc.h>: one heap for all threads."""

STUCK_SECONDS = 60.0
"""A writer that showed no sign of life for so long is not reported as alive."""


def load_config(path: Path | None) -> Config:
    """The config in ``path`` (see ``config.load``), options and transforms checked too.

    :raises ConfigError: with all of its mistakes.
    """
    return load(path, check_parts)


class Service:
    """The daemon. ``run`` blocks until it is told to stop, or, with ``once``, until it is done."""

    def __init__(self, config: Config, *, once: bool = False) -> None:
        self.config = config
        self.progress = Progress()
        self.flow: Flow | None = None
        self._once = once
        self._wake = threading.Event()
        self._stop = False
        self._reload = False
        self._sinks: dict[Path, Hdf5Sink] = {}
        self._notify = partial(sd_notify, os.environ.get("NOTIFY_SOCKET"))
        self._locked: dict[Path, contextlib.ExitStack] = {}
        self._tries = 0
        self._busy_since: float | None = None
        self._distrust = False  # pending rows may be in the cache only

    def run(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Take files until stopped. ``on_tick`` is called several times a second.

        :raises BusyWorld: another daemon has the state or an output; with ``once``, also a disk
            that is full and the like, which is else waited out.
        :raises BrokenInvariant: going on could lose or double rows.
        """
        _tune_memory()
        state_lock = self.config.state / "lock"
        with (
            self._signals(),
            locks.hold(state_lock, "another ingestd uses this state directory"),
        ):
            self._prepare(self.config)
            try:
                while True:
                    try:
                        self._live(on_tick)
                    except BusyWorld as error:
                        self._distrust |= isinstance(error, SyncFailed)
                        with contextlib.suppress(BusyWorld):  # else before the next recovery
                            self._withdraw()
                        if self._once:
                            raise
                        self._wait_out(error)
                    if self._stop or self._once:
                        break
                    if self._reload:
                        self._apply_config()
            finally:
                self._notify("STOPPING=1")
                with contextlib.suppress(BusyWorld):
                    self._abandon()
                for output in list(self._locked):
                    self._unlock(output)
                done = self.progress
                event(logging.INFO, "stopped", files=done.files, rows=done.rows)

    def _live(self, on_tick: Callable[[], None]) -> None:
        """One flow, from recovery to its end."""
        self._abandon()
        ledger_path = self.config.state / LEDGER
        self._withdraw()
        self._recover(ledger_path)
        flow = self.flow = Flow(
            self.config,
            Outputs(self._sinks, self._open_captured, self._close_captured),
            ledger_path,
            self.progress,
            once=self._once,
            read_back=self._busy_since is not None,
            on_end=self._wake.set,
        )
        self.progress.beat = time.monotonic()
        files, healthy = self.progress.files, time.monotonic() + HEALTHY_SECONDS
        flow.start()
        self._notify("READY=1\nSTATUS=taking files")
        try:
            while flow.running():
                if self.progress.files > files or time.monotonic() > healthy:
                    self._say_going_on()
                self._wake.wait(TICK_SECONDS)
                self._wake.clear()
                on_tick()
                self._feed_watchdog()
                if self._stop or self._reload:
                    flow.stop()
        except BaseException:
            # Whatever it is (a terminal that is gone), the outputs stay open until nobody writes.
            flow.stop()
            with contextlib.suppress(Exception):
                flow.end()
            raise
        flow.end()
        for sink in self._sinks.values():
            sink.close()
        self._sinks.clear()

    def _recover(self, ledger_path: Path) -> None:
        with contextlib.closing(Ledger(ledger_path)) as ledger:
            pending = {Path(output) for output in ledger.pending_outputs()}
            fixed = self._fixed(self.config)
            for path in fixed:
                self._sinks[path] = self._recovered(path, ledger)
            unclean = {path for path in unclean_outputs(self.config) if self._may_be_ours(path)}
            for path in (pending | unclean) - fixed:
                try:
                    self._sinks[path] = self._recovered(path, ledger)
                except BrokenInvariant as error:
                    event(logging.ERROR, f"left as it is: {error}", output=path)

    def _recovered(self, path: Path, ledger: Ledger) -> Hdf5Sink:
        busy = self._busy_since is not None
        open_sink = partial(Hdf5Sink, reserve=self.config.reserve, workers=self.config.workers)
        self._lock(path)
        return recover(path, ledger, self.config.state, open_sink, said=busy)

    def _may_be_ours(self, output: Path) -> bool:
        """Whether an ingestd wrote it, and no other one does now."""
        lock = locks.output_lock(output)
        return output in self._locked or (lock.exists() and not locks.held(lock))

    @staticmethod
    def _fixed(config: Config) -> set[Path]:
        """The outputs that no capture names."""
        return {s.output for s in config.sources.values() if not wildcard(s.output)}

    # Outputs that captures name: for the writer's thread, while a flow runs

    def _open_captured(self, path: Path) -> Hdf5Sink:
        there = next(p for p in (path, *path.parents) if p.exists())
        if there.is_file() != (there == path):
            raise BrokenInvariant(f"{there}: something else has this name")
        try:
            with contextlib.closing(Ledger(self.config.state / LEDGER)) as ledger:
                return self._recovered(path, ledger)
        except BrokenInvariant:
            self._unlock(path)
            raise

    def _close_captured(self, path: Path) -> None:
        self._sinks[path].close()
        self._unlock(path)

    def _withdraw(self) -> None:
        """After a failed fsync pending rows read back right, and may be gone after a loss of power.

        :raises BusyWorld: the ledger cannot be written yet.
        """
        if self._distrust:
            ledger = Ledger(self.config.state / LEDGER)
            try:
                ledger.withdraw_all()
            finally:
                ledger.close()
            self._distrust = False

    def _abandon(self) -> None:
        """Close what a failed flow left open.

        :raises BusyWorld: HDF5 cannot close a file yet.
        """
        for path in list(self._sinks):
            self._sinks[path].abandon()
            del self._sinks[path]

    def _prepare(self, config: Config) -> None:
        """Lock the outputs, make the drop directories. Only here: one that is gone later on is
        waited for, since something may be mounted there.

        :raises BusyWorld: one cannot be had; then no lock is held that was not before.
        """
        wanted = self._fixed(config)
        with contextlib.ExitStack() as fresh:
            for output in wanted - self._locked.keys():
                fresh.callback(self._unlock, output)
                self._lock(output)
            for source in config.sources.values():
                try:
                    source.drop.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise BusyWorld(
                        f"{source.drop}: cannot make the drop directory: {error.strerror}"
                    ) from error
            fresh.pop_all()
        for output in self._locked.keys() - wanted:
            self._unlock(output)

    def _lock(self, output: Path) -> None:
        if output not in self._locked:
            held = contextlib.ExitStack()
            held.enter_context(
                locks.hold(locks.output_lock(output), f"another ingestd writes {output}")
            )
            self._locked[output] = held

    def _unlock(self, output: Path) -> None:
        if output in self._locked:
            self._locked.pop(output).close()

    # A busy world

    def _wait_out(self, error: BusyWorld) -> None:
        if self._busy_since is None:
            self._busy_since = time.monotonic()
            self._tries = 0
            event(logging.WARNING, f"waiting, nothing is lost: {error}")
        self._notify(f"STATUS=waiting: {error}")
        seconds = RETRY_SECONDS[min(self._tries, len(RETRY_SECONDS) - 1)]
        self._tries += 1
        deadline = time.monotonic() + seconds
        while not (self._stop or self._reload) and time.monotonic() < deadline:
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            self.progress.beat = time.monotonic()
            self._feed_watchdog()

    def _say_going_on(self) -> None:
        if self._busy_since is not None:
            waited = f"{time.monotonic() - self._busy_since:.1f}s"
            event(logging.INFO, "going on", waited=waited)
            self._busy_since = None

    def _feed_watchdog(self) -> None:
        if time.monotonic() - self.progress.beat < STUCK_SECONDS:
            self._notify("WATCHDOG=1")

    # Signals

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stop = True
            self._wake.set()

        def reload(number: int, frame: FrameType | None) -> None:
            self._reload = True
            self._wake.set()

        wanted: dict[int, Callable[[int, FrameType | None], None] | signal.Handlers] = {
            signal.SIGTERM: stop,
            signal.SIGINT: stop,
            # With --once there is nothing to reload for, and a closed terminal is no success.
            signal.SIGHUP: signal.SIG_DFL if self._once else reload,
            # Raised when a lease that settling takes for an instant is in a writer's way.
            signal.SIGIO: signal.SIG_IGN,
        }
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _apply_config(self) -> None:
        """Take the config anew; a wrong one is refused, and the old one stays in force."""
        self._reload = False
        try:
            with modules_anew(self.config):
                config = load_config(self.config.path)
            if config.state != self.config.state:
                raise ConfigError([f"{config.state}: 'state' cannot change while running"])
            self._prepare(config)
        except (ConfigError, BusyWorld) as error:
            for problem in str(error).splitlines():
                event(logging.ERROR, f"the old config stays in force: {problem}")
            return
        self.config = config
        event(logging.INFO, "took the new config", sources=len(config.sources))


def _tune_memory() -> None:
    """Keep freed memory for the next rows: from the kernel it would come anew, page by page."""
    # Millions of small tuples live for a second, and none is part of a cycle: looking for cycles
    # among them took a fifth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        for option, value in MALLOC.items():
            mallopt(option, value)
