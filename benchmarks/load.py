"""Arrival to visible under load: files come at half the rate that the daemon can take.

First the highest rate: many files at once, until a polling reader has them all. Then files come
at half that rate, from a process that notes the time before each rename, while a polling SWMR
reader in another notes when it had read each file's rows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arrivals import stage, watch
from benchmarks.processes import daemon
from benchmarks.report import parser, report
from benchmarks.stats import latencies_ms, significant

SHAPE = (64, 8)

CONFIG = """\
state: state
sources:
  bench: {drop: drop, output: out.h5, after: {move: done}}
"""


def main() -> None:
    """Run it and print the numbers."""
    made = parser(__doc__)
    made.add_argument("--files", type=int, default=20_000, help="to find the highest rate")
    made.add_argument("--seconds", type=float, default=10.0, help="of load (default: 10)")
    made.add_argument("--share", type=float, default=0.5, help="of that rate (default: 0.5)")
    made.add_argument(
        "--poll-ms", type=float, default=1.0, help="the reader's pause; 0: none (default: 1)"
    )
    args = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
        numbers = measure(Path(directory), args.files, args.seconds, args.share, args.poll_ms)
    report("benchmarks.load", {"reader_poll_ms": args.poll_ms, **numbers}, args.json)


def measure(
    directory: Path, files: int, seconds: float, share: float, poll_ms: float
) -> dict[str, Any]:
    """The highest rate, then latencies at a share of it."""
    (directory / "ingestd.yaml").write_text(CONFIG)
    (directory / "drop").mkdir()
    random = np.random.default_rng(1)

    def draw() -> np.ndarray:
        return random.random(SHAPE)

    first = 100  # take the start of the daemon, and of its output, out of it
    with daemon(directory):
        stage(directory / "staged", 0, first + files, draw)
        watch(directory, 0, first, SHAPE[0], 0, poll_ms)
        highest = watch(directory, first, first + files, SHAPE[0], 0, poll_ms).rate
        begin = first + files
        end = begin + max(1, int(highest * share * seconds))
        stage(directory / "staged", begin, end, draw)
        seen = watch(directory, begin, end, SHAPE[0], highest * share, poll_ms)
    return {
        "file_shape": SHAPE,
        "highest_files_per_second": significant(highest),
        "load_files_per_second": significant(highest * share),
        "load_files": end - begin,
        "taken_files_per_second": significant(seen.rate),
        **latencies_ms(seen.latencies),
    }


if __name__ == "__main__":
    main()
