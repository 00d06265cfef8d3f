"""Small files, now and then, into a compressed dataset: what it costs in bytes and in staleness.

``sink``: Hdf5Sink alone, flushed after each few rows. ``daemon``: a file every few milliseconds
into a running daemon, and a polling reader. The ideal is the same rows, with the same filters and
chunks, and the same records, written at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.arrivals import stage, watch
from benchmarks.filters import created_like
from benchmarks.processes import daemon
from benchmarks.report import parser, report
from benchmarks.stats import latencies_ms, significant
from ingestd.model import RowType
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5 import Hdf5Sink

CODECS = ("gzip", "bitshuffle")
FILE_SHAPE = (16, 256)
FILE_BYTES = 16 * 256 * 2

CONFIG = """\
state: state
sources:
  bench:
    drop: drop
    output: out.h5
    datasets: {{/data: {{compression: {codec}}}}}
    after: {{move: done}}
"""


def main() -> None:
    """Run both for each codec and print the numbers."""
    made = parser(__doc__)
    made.add_argument("--publishes", type=int, default=2000, help="of the sink (default: 2000)")
    made.add_argument("--seconds", type=float, default=20.0, help="of the daemon (default: 20)")
    made.add_argument("--rate", type=float, default=20.0, help="files a second (default: 20)")
    made.add_argument("--codecs", default=",".join(CODECS), help="as in the config; default: both")
    made.add_argument("--poll-ms", type=float, default=1.0, help="the reader's pause (default: 1)")
    args = made.parse_args()
    numbers: dict[str, Any] = {"file_shape": FILE_SHAPE, "file_bytes": FILE_BYTES}
    for codec in args.codecs.split(","):
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
            sink = by_sink(Path(directory), codec, args.publishes)
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-", dir=args.dir) as directory:
            files = max(1, int(args.seconds * args.rate))
            running = by_daemon(Path(directory), codec, files, args.rate, args.poll_ms)
        numbers[codec] = {"sink": sink, "daemon": running}
    report("benchmarks.trickle", numbers, args.json)


def by_sink(directory: Path, codec: str, publishes: int) -> dict[str, Any]:
    """Append, flush, append, flush."""
    path = directory / "out.h5"
    sink = Hdf5Sink(path)
    spec = DatasetSpec(RowType(np.dtype("<u2"), FILE_SHAPE[1:]), compression=codec)
    sink.ensure({"/data": spec}, {})
    draw = _draw()
    for _ in range(publishes):
        sink.append("/data", draw())
        sink.flush()
    sink.close()
    return {"publishes": publishes, **_sizes(path, publishes)}


def _draw() -> Callable[[], np.ndarray]:
    """Few counts, Poisson, and never the same."""
    random = np.random.default_rng(1)
    return lambda: random.poisson(2.0, FILE_SHAPE).astype("<u2")


def by_daemon(
    directory: Path, codec: str, files: int, rate: float, poll_ms: float
) -> dict[str, Any]:
    """The whole way, with a reader."""
    (directory / "ingestd.yaml").write_text(CONFIG.format(codec=codec))
    (directory / "drop").mkdir()
    stage(directory / "staged", 0, files + 1, _draw())
    with daemon(directory):
        watch(directory, 0, 1, FILE_SHAPE[0], 0, poll_ms)
        seen = watch(directory, 1, files + 1, FILE_SHAPE[0], rate, poll_ms)
    sizes = _sizes(directory / "out.h5", files + 1)
    return {"files": files, "files_per_second": rate, **latencies_ms(seen.latencies), **sizes}


def _sizes(path: Path, files: int) -> dict[str, Any]:
    rows = files * FILE_SHAPE[0]
    with h5py.File(path, "r", swmr=True) as file:
        assert len(file["/data"]) == rows, f"{len(file['/data'])} rows, not {rows}"
    size, ideal = path.stat().st_size, _ideal_bytes(path)
    return {
        "raw_bytes": files * FILE_BYTES,
        "file_bytes": size,
        "ideal_bytes": ideal,
        "x_ideal": significant(size / ideal),
    }


def _ideal_bytes(path: Path) -> int:
    """The size of a file with the same datasets, each written at once."""
    ideal = path.with_name("ideal.h5")
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    with (
        h5py.File(path, "r", swmr=True) as source,
        h5py.File(ideal, "w", libver=("v110", "v114")) as target,
    ):

        def copy(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset):
                args = (name.encode(), item.id.get_type(), item.id.get_space())
                made = h5py.h5d.create(target.id, *args, created_like(item), links)
                h5py.Dataset(made)[:] = item[:]

        source.visititems(copy)
    return ideal.stat().st_size


if __name__ == "__main__":
    main()
