"""What tests of the real program share: to run it, to wait for it, to drop files for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import ingestd

ROOT = Path(ingestd.__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
INGESTD: tuple[str | Path, ...] = (sys.executable, "-m", "ingestd")
SECONDS = 30.0

T = TypeVar("T")


def until(
    condition: Callable[[], T], what: str, seconds: float = SECONDS, pause: float = 0.005
) -> T:
    """Wait for ``condition`` to be true, and give what it gave; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(pause)
    return found


def run(
    *words: str | Path,
    cwd: Path,
    code: int | tuple[int, ...] = 0,
    command: Sequence[str | Path] = INGESTD,
    seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run ``ingestd WORDS...`` to its end, which is to be (one of) ``code``; -9: SIGKILL."""
    done = subprocess.run(
        [*command, *words],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    codes = code if isinstance(code, tuple) else (code,)
    assert done.returncode in codes, f"{words} ended with {done.returncode}:\n{done.stderr}"
    return done


def drop(path: Path, write: Callable[[Path], object]) -> None:
    """Let a file appear at ``path`` at once, written by ``write`` under a hidden name."""
    hidden = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(hidden)
    hidden.rename(path)


class Daemon:
    """``ingestd run`` in ``cwd`` while the block runs; its log is appended to ``log``."""

    def __init__(
        self, cwd: Path, config: str = "x.yaml", command: Sequence[str | Path] = INGESTD
    ) -> None:
        self.log = cwd / "daemon.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "run", "-c", config],
                cwd=cwd,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def until(self, condition: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
        """Wait for ``condition`` as long as the daemon lives."""

        def look() -> T:
            found = condition()
            if not found:
                assert self.process.poll() is None, f"the daemon ended:\n{self.log.read_text()}"
            return found

        return until(look, what, seconds)

    def kill(self) -> None:
        """SIGKILL: it dies where it stands."""
        assert self.process.poll() is None, f"the daemon ended:\n{self.log.read_text()}"
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = SECONDS) -> None:
        """SIGTERM: it commits what is decoded, and ends with 0."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(seconds) == 0, self.log.read_text()
