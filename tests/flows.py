"""What tests of the flow share: a config in a directory, and one pass of the flow inside it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from helpers import until

from ingestd.config import Config, Source
from ingestd.ledger import Ledger
from ingestd.model import DropFile, Fingerprint
from ingestd.pipeline.commit import Progress
from ingestd.pipeline.flow import Flow
from ingestd.pipeline.outputs import Outputs
from ingestd.sinks.hdf5 import Hdf5Sink


def make_config(root: Path, *, more: Mapping[str, Any] | None = None, **source: Any) -> Config:
    """One source ``s``: ``root/drop`` to ``root/out.h5``; ``more`` are keys beside it."""
    settings = {
        "drop": str(root / "drop"),
        "output": str(root / "out.h5"),
        "after": {"move": str(root / "done")},
        "quarantine": str(root / "failed"),
        **source,
    }
    (root / "drop").mkdir(parents=True, exist_ok=True)
    return Config.model_validate(
        {"state": str(root / "state"), **(more or {}), "sources": {"s": settings}}
    )


def make_source(root: Path, **source: Any) -> Source:
    """The one source of ``make_config``."""
    return make_config(root, **source).sources["s"]


def drop_file(source: Source, name: str) -> DropFile:
    """The file ``name`` of ``source`` as it lies there now."""
    return DropFile(source.name, name, Fingerprint.of((source.drop / name).lstat()))


def take_all(config: Config) -> Progress:
    """One pass of the flow: everything that lies in the drop directories is taken."""
    for source in config.sources.values():
        _pass_the_tick(source.drop)
    config.state.mkdir(parents=True, exist_ok=True)
    ledger_path = config.state / "ledger.sqlite"
    Ledger(ledger_path).close()
    progress = Progress()
    sinks: dict[Path, Hdf5Sink] = {}
    outputs = Outputs(sinks, Hdf5Sink, lambda output: sinks[output].close())
    flow = Flow(config, outputs, ledger_path, progress, once=True)
    flow.start()
    try:
        flow.end()
    finally:
        for sink in sinks.values():
            sink.close()
    return progress


def _pass_the_tick(drop: Path) -> None:
    """Files of the kernel clock's present tick would wait for a second look, after the others."""
    newest = max((path.stat().st_ctime_ns for path in drop.rglob("*")), default=0)
    coarse = 5  # CLOCK_REALTIME_COARSE
    until(lambda: time.clock_gettime_ns(coarse) > newest, "the next tick", pause=0.001)


def rows_of(output: Path, dataset: str = "/data") -> np.ndarray:
    """All rows, read as any reader would."""
    with h5py.File(output, "r") as file:
        return file[dataset][:]
