"""Start one command, wait for it, and tell what it took, as JSON. Standard library only.

It stands between the benchmark and what it measures because a process starts with the peak
memory of the one it was forked from: this one is small.
"""

from __future__ import annotations

import json
import os
import sys
import time

Action = tuple[int, int, str, int, int]


def main() -> None:
    """``launch.py STDOUT STDERR COMMAND...``"""
    out, log, *command = sys.argv[1:]
    actions: list[Action] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
    ]
    started = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    result = {
        "seconds": seconds,
        # Of the command and of every child that it waited for; the peak is that of the largest.
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
