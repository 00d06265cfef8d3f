"""What stands where in an output: the one thing that writers and readers of it share.

Beside each live dataset ``/a/b`` stands ``/ingestd/a/b/files``: one record for each drop file,
written and flushed after the file's rows. It is the provenance, and the commit marker: rows
below the end of the last record are final; rows beyond it may still be taken back.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping

import numpy as np

GROUP = "/ingestd"
"""Everything of ours in an output lies below this group."""

_TIMES = re.compile(r"(datetime64|timedelta64)\[[0-9]*[a-zA-Z]+\]")

NAME_BYTES = 255
SOURCE_BYTES = 64
CAPTURES_BYTES = 128

PLACED = "placed"
"""Attribute of the records of a dataset whose rows stand where their files' names say: records are
in order of arrival, and between the rows that they name others are not yet written (fill value)."""

PLACED = "placed"
"""Attribute of the records of a dataset whose rows stand where their files' names say: records are
in order of arrival, and between the rows that they name others are not yet written (fill value)."""

RECORD = np.dtype(
    [
        ("first_row", "<u8"),
        ("rows", "<u8"),
        ("name", f"S{NAME_BYTES}"),  # path below the drop directory; of a longer one the end
        ("digest", "S32"),  # xxh3-128, hex, of the rows' bytes as stored, C order
        ("mtime_ns", "<i8"),  # of the drop file, since 1970 UTC
        ("committed_ns", "<i8"),  # when the record was written, since 1970 UTC
        ("source", f"S{SOURCE_BYTES}"),
        ("file_id", "<u8"),  # the ledger's; the same in every dataset that the file feeds
        ("file_digest", "S32"),  # xxh3-128, hex, of the drop file's bytes
        ("datasets", "<u4"),  # how many datasets the file feeds; each has a record of it
        ("captures", f"S{CAPTURES_BYTES}"),  # JSON: what the config's match captured of the name
    ]
)
"""One record of ``files``, little-endian and unpadded; ``mtime_ns`` and ``committed_ns`` in ns."""

RECORD_STRUCT = struct.Struct(f"<QQ{NAME_BYTES}s32sqq{SOURCE_BYTES}sQ32sI{CAPTURES_BYTES}s")
"""The same, field by field: what ``pack`` makes is one ``RECORD``."""

RECORDS_PER_CHUNK = 128

UNITS = "units"
"""Attribute of a dataset of times: what its int64 count, ``datetime64[ns]``, as NumPy writes it. Of
times in a field ``span.start``, the attribute is ``span.start.units``."""


def units_attrs(units: Mapping[str, str]) -> dict[str, str]:
    """Attributes that tell the units of the times in a dataset, by path of the field."""
    return {f"{path}.{UNITS}" if path else UNITS: unit for path, unit in units.items()}


def units_of(attrs: Mapping[str, object]) -> dict[str, str]:
    """Units of the times in a dataset with these attributes; other units are not told."""
    found = {}
    for name in attrs:
        path, dot, last = name.rpartition(".")
        value = attrs[name] if last == UNITS else None
        if bool(dot) == bool(path) and isinstance(value, str) and _TIMES.fullmatch(value):
            found[path] = value
    return found


def records_path(dataset: str) -> str:
    """Where the records of ``dataset`` (an absolute path in the file) stand."""
    return f"{GROUP}{dataset}/files"


def dataset_path(records: str) -> str:
    """The dataset whose records stand at ``records``."""
    assert records.startswith(GROUP) and records.endswith("/files"), records
    return records[len(GROUP) : -len("/files")]


def captures_text(captures: Mapping[str, str | int]) -> str:
    """``captures`` as a record holds them; of too many the first, as long as they fit whole."""
    kept = dict(captures)
    while kept:
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode(errors="replace")) <= CAPTURES_BYTES:
            return text
        kept.popitem()
    return ""


def committed_rows(last_record: np.void | None) -> int:
    """How many rows are final, by the last record (None: there is none)."""
    return 0 if last_record is None else int(last_record["first_row"]) + int(last_record["rows"])
