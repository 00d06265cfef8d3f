"""ingestd against ``cp -r`` and against other ways to append, on the same files, in turn.

The whole daemon runs (scan, settle, digest, ledger, provenance, fsync, archive); the peers only
append. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contest import DAEMON, DURABLE, FLOOR, Contestant, Result, Rules, contest
from benchmarks.peers import PEERS
from benchmarks.processes import Run
from benchmarks.report import as_json, command_line, parser
from benchmarks.stats import Spread, digits, significant
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """Run it, print the tables, write the JSON."""
    args = _arguments()
    rules = Rules(args.scale, args.rounds, args.patience, args.peers)
    console, log = Console(), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(width=132)  # so that a table in a file is whole
    console.print(command_line("benchmarks"))
    results = {}
    for name in args.only or [w.name for w in WORKLOADS.values() if not w.opt_in]:
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
            result = contest(
                WORKLOADS[name], Path(directory), rules, lambda what, n=name: log.print(n, what)
            )
        console.print(_table(result))
        for missing in result.missing:
            console.print(f"{missing}: left out, {PEERS[missing][0]} is not installed")
        results[name] = _numbers(result)
        if args.json:  # after each, so that an hour's work outlives its end
            numbers = {"scale": args.scale, "rounds": args.rounds, "workloads": results}
            args.json.write_text(as_json("benchmarks", numbers) + "\n")


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument(
        "--only", type=_names(WORKLOADS), metavar="NAME[,NAME]", help=f"of {', '.join(WORKLOADS)}"
    )
    made.add_argument("--scale", type=float, default=1.0, help="of sizes, counts (default: 1)")
    made.add_argument("--rounds", type=int, default=5, help="runs of each (default: 5)")
    made.add_argument(
        "--peers",
        type=_names(PEERS),
        metavar="NAME[,NAME]",
        help=f"of {', '.join(PEERS)}; none: '' (default: by workload)",
    )
    made.add_argument(
        "--patience",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="who takes longer runs in the first round only (default: 120)",
    )
    return made.parse_args()


def _names(known: dict[str, Any]) -> Any:
    def names(text: str) -> tuple[str, ...]:
        found = tuple(name for name in text.split(",") if name)
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(known)}")
        return found

    return names


def _table(result: Result) -> Table:
    inputs, workload = result.inputs, result.workload
    floor = "open + read + rename" if workload.small else "cp -r"
    table = Table(
        title=f"{workload.name}: {inputs.files} files, {inputs.bytes / 2**20:.0f} MiB; "
        f"floor: {floor}. Medians (lowest-highest)",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for heading in ("x floor", "x floor,\nwithout start"):
        table.add_column(heading, justify="right", no_wrap=True)
    if not workload.small:
        table.add_column("x floor\n+ sync", justify="right", no_wrap=True)
    unit = "files/s" if workload.small else "MiB/s"
    for heading in ("seconds", "of which\nstart", "CPU\nseconds", "peak\nMiB", unit):
        table.add_column(heading, justify="right")
    amount = inputs.files if workload.small else inputs.bytes / 2**20
    for one in result.contestants:
        ratios = _ratios(one, result.contestants)
        seconds = Spread.of(_seconds(one.runs)).median
        idle = Spread.of(_seconds(one.idle_runs)).median if one.idle_runs else 0.0
        table.add_row(
            one.name + (" (once)" if len(one.runs) < len(result.contestants[0].runs) else ""),
            str(ratios["x_floor"]),
            str(ratios["x_floor_without_start"]) if idle < seconds / 2 else "-",
            *([] if workload.small else [str(ratios["x_floor_sync"])]),
            digits(seconds),
            digits(idle) if idle else "",
            digits(Spread.of(_cpu(one.runs)).median),
            digits(max(run.peak_mib for run in one.runs)),
            digits(amount / seconds),
            style="bold" if one.name == DAEMON else None,
        )
    return table


def _ratios(one: Contestant, contestants: list[Contestant]) -> dict[str, Spread]:
    """Round by round: what slows the machine down in one round slows down both."""
    floors = {other.name: other for other in contestants}
    floor = floors[FLOOR]
    ratios = {
        "x_floor": _over(_seconds(one.runs), _seconds(floor.runs)),
        "x_floor_without_start": _over(_working(one), _working(floor)),
        # For a machine that others use too: waiting for their turns is not in it.
        "x_floor_cpu": _over(_cpu(one.runs), _cpu(floor.runs)),
    }
    if durable := floors.get(DURABLE):
        ratios["x_floor_sync"] = _over(_seconds(one.runs), _seconds(durable.runs))
    return ratios


def _over(times: Sequence[float], floors: Sequence[float]) -> Spread:
    return Spread.of([a / b for a, b in zip(times, floors, strict=False)])


def _seconds(runs: Sequence[Run]) -> list[float]:
    return [run.seconds for run in runs]


def _cpu(runs: Sequence[Run]) -> list[float]:
    return [run.cpu_seconds for run in runs]


def _working(one: Contestant) -> list[float]:
    """Seconds of each round, less those that it takes with nothing to do."""
    start = Spread.of(_seconds(one.idle_runs)).median if one.idle_runs else 0.0
    return [run.seconds - start for run in one.runs]


def _numbers(result: Result) -> dict[str, Any]:
    contestants = {
        one.name: {
            **{name: r.rounded() for name, r in _ratios(one, result.contestants).items()},
            "seconds": [significant(run.seconds) for run in one.runs],
            "idle_seconds": [significant(run.seconds) for run in one.idle_runs],
            "cpu_seconds": [significant(run.cpu_seconds) for run in one.runs],
            "peak_mib": significant(max(run.peak_mib for run in one.runs)),
        }
        for one in result.contestants
    }
    inputs = result.inputs
    return {"files": inputs.files, "bytes": inputs.bytes, "rows": inputs.rows} | contestants


if __name__ == "__main__":
    sys.exit(main())
