"""The text of a first config. Whatever it is made from, it loads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_HEAD = """\
# What ingestd does. Sizes read 256MiB, times 1s, 250ms, 1d; relative paths start at the
# working directory. 'ingestd schema' prints every key; 'ingestd check' checks this file.

# state: state               # directory of the ledger and the lock
# commit:
#   every: 1s                # a row is durable at the latest this long after it is visible
#   durability: synced       # or visible: without fsync, faster, less safe
# memory: 256MiB             # bytes of decoded rows in flight, a hard bound
# workers: 2                 # decoding threads
# scan: 5s                   # each drop directory is read again at least this often

sources:
"""

_OPTIONS = """\
    # match: auto            # by suffix; or '*.npy', or with captures: 'run{{run:d}}_{{seq:d}}.npy'
    # recursive: false       # true: directories below drop are read too
    # settle: closed         # closed | renamed | quiet:2s | marker:.ready
    # order: arrival         # arrival | name | mtime | '{{seq}}', a number that match captures
    # after: {{move: done/{name}}}    # keep | delete | {{move: DIR}}
    # quarantine: failed/{name}
    # duplicates: skip       # skip | append | quarantine: content that was seen before
"""

_DATASET_OPTIONS = """\
        # stack: false       # true: a file's whole array is one row; false: axis 0 holds rows
        # chunk_rows: auto
        # compression: none  # gzip | lzf | lz4 | zstd | bitshuffle | blosc | blosc2, or name:level
        # attrs: {units: counts}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A dataset to declare, as a sample showed it. ``row_shape`` is without axis 0."""

    path: str
    dtype: str | None = None
    row_shape: tuple[int, ...] | None = None
    member: str | None = None
    stack: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    """Of a table with named columns: the dtype of each."""


def starter(
    source_name: str = "frames",
    format: str = "auto",
    datasets: Sequence[Found] = (Found("/data"),),
    left_out: Sequence[str] = (),
    match: str = "auto",
    proposed: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """A commented config of one source, as YAML.

    :param proposed: a pattern with captures that the names of files seem to follow; a comment.
    :param left_out: members of the sample that get no dataset, each with its reason; comments.
    """
    text = _HEAD
    text += f"  {source_name}:\n"
    text += f"    drop: drop/{source_name}\n"
    text += f"    output: data/{source_name}.h5\n"
    text += f"    format: {format}\n" if format != "auto" else "    # format: auto\n"
    if options:
        text += f"    options: {json.dumps(dict(options))}\n"
    if match != "auto":
        text += f"    match: {_quoted(match)}\n"
    if proposed is not None:
        text += f"    # match: {_quoted(proposed)}    # captures: for order, place, or output\n"
    text += _OPTIONS.format(name=source_name)
    text += "    datasets:\n"
    for dataset in datasets:
        text += f"      {_quoted(dataset.path)}:\n"
        text += _declared(dataset)
        text += _DATASET_OPTIONS
    for reason in left_out:
        text += f"      # left out: {_quoted(reason)[1:-1]}\n"
    return text


def _declared(dataset: Found) -> str:
    if dataset.columns:
        fields = ", ".join(f"{_quoted(n)}: {dtype}" for n, dtype in dataset.columns.items())
        names = ", ".join(map(_quoted, dataset.columns))
        return f"        member: [{names}]\n        dtype: {{{fields}}}\n        row_shape: []\n"
    member = "null" if dataset.member is None else _quoted(dataset.member)
    dtype = "null" if dataset.dtype is None else _quoted(dataset.dtype)
    shape = "null" if dataset.row_shape is None else str(list(dataset.row_shape))
    text = f"        member: {member}\n        dtype: {dtype}\n        row_shape: {shape}\n"
    if dataset.row_shape is not None and len(dataset.row_shape) == 1 and not dataset.stack:
        text += "        # stack: true        # if each file is one picture, not rows of values\n"
    return text + ("        stack: true\n" if dataset.stack else "")


def _quoted(text: str) -> str:
    """``text`` in YAML's double quotes, whatever it holds: Python's escapes are YAML's too."""
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'
