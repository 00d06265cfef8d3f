"""Threads that never die alone: the first failure of any is kept, and stops them all."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ingestd.errors import SyncFailed
from ingestd.pipeline.reorder import Closed


class Supervisor:
    """Starts threads, and learns of their end. ``stopping`` is set when they shall end.

    ``on_end`` is called by each thread, as the last thing it does.
    """

    def __init__(
        self, on_stop: Callable[[], None], on_end: Callable[[], None] = lambda: None
    ) -> None:
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self._on_stop = on_stop
        self._on_end = on_end
        self._threads: list[threading.Thread] = []
        self._ended: list[str] = []

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread; if it raises, everything stops."""

        def run() -> None:
            try:
                work()
            except Closed:
                pass  # the flow is stopping: this is how a waiting thread learns of it
            except BaseException as error:  # noqa: BLE001 - handed on to whoever joins
                # That the disk lied is what matters most, whoever fails first.
                if self.failure is None or isinstance(error, SyncFailed):
                    self.failure = error
                self.stop()
            finally:
                self._ended.append(name)
                self._on_end()

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Ask every thread to end."""
        self.stopping.set()
        self._on_stop()

    def alive(self) -> bool:
        """Whether any thread still works."""
        return len(self._ended) < len(self._threads)

    def join(self) -> None:
        """Wait for all of them."""
        for thread in self._threads:
            thread.join()
