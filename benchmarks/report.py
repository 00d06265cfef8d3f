"""What every benchmark prints: how it was called, where it ran, and the numbers, as one JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def report(module: str, numbers: dict[str, Any]) -> None:
    """Print the command line, then one JSON object with the machine, versions and ``numbers``."""
    print(shlex.join(["python", "-m", module, *sys.argv[1:]]))
    machine = {
        "date": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "numpy": np.__version__,
    }
    print(json.dumps({"machine": machine, **numbers}, indent=2))


def _cpu() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()
