"""What every benchmark prints: how it was called, where it ran, and the numbers, as one JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

_PEERS = ("hdf5plugin", "tables", "zarr", "tensorstore")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks share; the first line of ``doc`` says what it is."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--dir", type=Path, help="where to work (default: the temporary directory)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    return made


def report(module: str, numbers: dict[str, Any], path: Path | None = None) -> None:
    """Print one JSON object: the command line, the machine, versions and ``numbers``."""
    text = as_json(module, numbers)
    print(text)
    if path:
        path.write_text(text + "\n")


def as_json(module: str, numbers: dict[str, Any]) -> str:
    """The object that ``report`` prints."""
    whole = {"command": command_line(module), "machine": machine(), **numbers}
    return json.dumps(whole, indent=2)


def command_line(module: str) -> str:
    """How this process was called."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def machine() -> dict[str, Any]:
    """Where a number was measured."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "numpy": np.__version__,
        **{name: found for name in _PEERS if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()
