"""Crash points: record what a process wrote to a file, and rebuild the file after each write.

Every state is one that a SIGKILL could have left: the changes up to it, whole and in their order
(strace reports a call when it is done, so calls that threads made at once stand as they ended).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

STRACE = shutil.which("strace")
WHY_SKIPPED = "strace is not installed: apt-get install strace"

_CALLS = (
    "pwrite64,pwritev,pwritev2,write,writev,ftruncate,truncate,fallocate,copy_file_range,sendfile,"
    "rename,renameat,renameat2,unlink,unlinkat,openat,fsync,fdatasync"
)
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(?:<([^>]*)>)?", re.DOTALL)
_FD = re.compile(r"\d+<([^>]*)>")
_SYNC = re.compile(r"f(data)?sync\(")
_STRING = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Write:
    """``data`` written to ``path`` at ``offset``."""

    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """``data`` written to the end of ``path`` by a call that names no offset."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """``path`` cut or extended with zeros to ``size``; ``grow``: never cut."""

    path: str
    size: int
    grow: bool = False


@dataclass(frozen=True, slots=True)
class Rename:
    """``old`` renamed to ``new``."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Gone:
    """``path`` deleted, or changed by a call (``why``) that cannot be replayed."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Sync:
    """``path`` is being synced: what was written to it before this is on the disk at its end."""

    path: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A line that the process wrote to the file of marks."""

    text: str


Event = Write | Append | Resize | Rename | Gone | Sync | Mark


@dataclass(frozen=True, slots=True)
class State:
    """The file after the first ``index`` events of a trace, and the last mark before then.

    ``beside``: the other files that were written below its directory, by their paths.
    """

    index: int
    image: bytes
    mark: str | None
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """What one run did to the files below the directory of ``target``."""

    target: str
    before: bytes | None
    events: tuple[Event, ...]

    def states(self, everything: bool = False) -> Iterator[State]:
        """The target after each event that changed it, and at each mark, while it is there.

        ``everything``: and after each event that changed a file beside it.

        :raises ValueError: it was written by a call that cannot be replayed (``write``, ...).
        """
        files: dict[str, bytearray] = {}
        if self.before is not None:
            files[self.target] = bytearray(self.before)
        mark = None
        for index, event in enumerate(self.events, start=1):
            if isinstance(event, Sync):
                continue
            if isinstance(event, Mark):
                mark = event.text
            elif not self._apply(event, files) and not everything:
                continue
            if self.target in files:
                others = {p: bytes(data) for p, data in files.items() if p != self.target}
                yield State(index, bytes(files[self.target]), mark, others)

    def _apply(self, event: Event, files: dict[str, bytearray]) -> bool:
        match event:
            case Write(path, offset, data):
                image = files.setdefault(path, bytearray())
                image.extend(bytes(max(0, offset - len(image))))
                image[offset : offset + len(data)] = data
            case Resize(path, size, grow):
                image = files.setdefault(path, bytearray())
                image.extend(bytes(max(0, size - len(image))))
                if not grow:
                    del image[size:]
            case Append(path, data):
                if path == self.target:
                    raise ValueError(f"{path}: a write without an offset cannot be replayed")
                files.setdefault(path, bytearray()).extend(data)
            case Rename(old, path):
                if path == self.target and old not in files:
                    raise ValueError(f"{old}, renamed to the target, was not recorded")
                if old in files:
                    files[path] = files.pop(old)
            case Gone(path, why):
                if path == self.target and why != "deleted":
                    raise ValueError(f"{path}: {why} cannot be replayed")
                files.pop(path, None)
        return path == self.target


def record(
    argv: Sequence[str | Path],
    path: Path,
    marks: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 60,
    ok: Sequence[int] = (0,),
) -> Trace:
    """Run ``argv`` (and its children) under strace: all changes to the file that ends at ``path``.

    The file may be made under another name in the same directory or below it. ``marks`` is the
    file whose lines are marks, default ``marks`` beside ``path``. ``ok``: exit codes to expect.
    """
    assert STRACE, WHY_SKIPPED
    path = path.resolve()
    marks = (marks or path.parent / "marks").resolve()
    log = path.parent / f".{path.name}.strace"
    before = path.read_bytes() if path.exists() else None
    options = ["-f", "-y", "-v", "-xx", "-s", str(1 << 28), "-e", "signal=none"]
    command = [STRACE, *options, "-e", f"trace={_CALLS}", "-o", log, "--", *argv]
    done = subprocess.run(command, env=env, timeout=seconds, capture_output=True, text=True)
    if done.returncode not in ok:
        raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stderr}")
    with log.open() as lines:
        events = tuple(_events(_calls(lines), f"{path.parent}/", str(marks)))
    log.unlink()
    return Trace(str(path), before, events)


def _calls(lines: Iterator[str]) -> Iterator[tuple[str, str, int, str]]:
    unfinished: dict[str, str] = {}
    for line in lines:
        process, call = line.split(maxsplit=1)
        if call.rstrip().endswith("<unfinished ...>"):
            if _SYNC.match(call):
                yield "fsync", call.split("(", 1)[1].split(" <unfinished")[0], 0, ""
            unfinished[process] = call.rstrip().removesuffix("<unfinished ...>").rstrip()
            continue
        if call.startswith("<... "):
            if _SYNC.match(unfinished[process]):
                continue
            call = unfinished.pop(process) + call.split("resumed>", 1)[1]
        if (found := _CALL.match(call)) and int(found[3]) >= 0:
            yield found[1], found[2], int(found[3]), _text(found[4] or "")


def _events(calls: Iterator[tuple[str, str, int, str]], root: str, marks: str) -> Iterator[Event]:
    for name, args, result, opened in calls:
        if name.startswith("rename"):
            old, new = map(_text, _STRING.findall(args))
            yield Rename(_absolute(old, args), _absolute(new, args))
            continue
        if name.startswith(("unlink", "truncate")):
            path = _absolute(_text(_STRING.findall(args)[0]), args)
        elif name == "openat":
            path = opened if "O_TRUNC" in args else ""
        else:
            path = _text(_FD.match(args)[1]) if _FD.match(args) else ""
        if path == marks and name == "write":
            yield from map(Mark, _data(args).decode().splitlines())
        elif path.startswith(root):
            yield _change(name, path, args, result)


def _change(name: str, path: str, args: str, result: int) -> Event:
    numbers = [int(n) for n in re.findall(r", (-?\d+)(?=,|$)", args)]
    match name:
        case "pwrite64" | "pwritev":
            return Write(path, numbers[-1], _data(args)[:result])
        case "pwritev2":
            return Write(path, numbers[-2], _data(args)[:result])
        case "openat":
            return Resize(path, 0)
        case "ftruncate" | "truncate":
            return Resize(path, numbers[-1])
        case "fallocate" if ", 0, " in args:
            return Resize(path, numbers[-2] + numbers[-1], grow=True)
        case "fallocate" if "FALLOC_FL_KEEP_SIZE, " in args:
            return Resize(path, 0, grow=True)
        case "unlink" | "unlinkat":
            return Gone(path, "deleted")
        case "fsync" | "fdatasync":
            return Sync(path)
        case "write":
            return Append(path, _data(args)[:result])
    return Gone(path, name)


def _text(hexed: str) -> str:
    return os.fsdecode(bytes.fromhex(hexed.replace("\\x", "")))


def _data(args: str) -> bytes:
    return b"".join(bytes.fromhex(s.replace("\\x", "")) for s in _STRING.findall(args))


def _absolute(path: str, args: str) -> str:
    base = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", args)
    return os.path.normpath(Path(_text(base[1]) if base else Path.cwd(), path))


def in_a_fork(check: Callable[[], object], seconds: int = 60) -> str | None:
    """Run ``check`` in a forked child: None if it returned, else its error, or its fatal signal.

    What HDF5 does to its process on a broken file (a crash, an endless cache or loop) ends with
    the child, which has ``seconds`` (SIGALRM), and with its own children.
    """
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        error = None
        try:
            os.setpgid(0, 0)
            # The handler of pytest-timeout is in Python: it would wait for HDF5, too.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            check()
        except BaseException as caught:  # noqa: BLE001 - handed to the parent
            where = traceback.extract_tb(caught.__traceback__)[-1]
            error = f"{type(caught).__name__} at line {where.lineno}: {caught}"
        os.write(send, json.dumps(error and error[:2000]).encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if os.WIFSIGNALED(status):
        return f"died of {signal.Signals(os.WTERMSIG(status)).name}"
    error = json.loads(answer)
    return None if error is None else str(error)
