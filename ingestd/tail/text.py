"""What readers found, as text: strict JSON, or compact for people.

No value that HDF5 can hold is refused, and nothing is printed that a terminal would obey.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ingestd.model import shown
from ingestd.tail.audit import Origin, Problem, Report

_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def json_row(row: int, values: Any) -> str:
    """One row as a JSON object, ``{"row": 12, "values": ...}``, without a line break.

    ``values`` is a number for rows of one value, else nested lists. What JSON has no value for:
    NaN and the infinities are the strings "NaN", "Infinity", "-Infinity" (as in zarr; Python's and
    JavaScript's number parsers take them back), complex numbers are [real, imaginary], structured
    values are objects, times are ISO 8601
    texts (or "NaT"), texts are strings (bytes that are not UTF-8 as ``\\xff``), opaque bytes are
    hex.
    """
    values = np.asarray(values)
    finite = values.dtype.kind in "biu" or (values.dtype.kind == "f" and np.isfinite(values).all())
    plain = values.tolist() if finite and values.dtype.char != "g" else _plain(values)
    return json.dumps({"row": row, "values": plain}, allow_nan=False)


def line(row: int, values: Any, width: int) -> str:
    """One row on one line of ``width`` characters at most: its values, or for frames a summary."""
    values = np.asarray(values)
    number = f"{row:>9}  "
    if values.ndim >= 2:
        return (number + _summary(values))[:width]
    # No more values than can be seen: each takes two characters at least.
    seen = values if values.dtype.names is not None else values.reshape(-1)[: width // 2 + 1]
    text = number + _compact(seen)
    cut = len(text) > width or (values.ndim == 1 and len(seen) < len(values))
    return text[: max(0, width - 3)] + "..." if cut else text


def origin_json(path: Path, origin: Origin) -> dict[str, Any]:
    """Where a row came from, as a JSON object; times twice, as ISO 8601 and in ns since 1970."""
    return {
        "output": str(path),
        "dataset": origin.dataset,
        "row": origin.row,
        "file": origin.file,
        "source": origin.source,
        "row_in_file": origin.row_in_file,
        "first_row": origin.rows.start,
        "rows": len(origin.rows),
        "mtime": _time(origin.mtime_ns),
        "mtime_ns": origin.mtime_ns,
        "committed": _time(origin.committed_ns),
        "committed_ns": origin.committed_ns,
        "rows_xxh3_128": origin.rows_digest,
        "file_xxh3_128": origin.file_digest,
        "file_id": origin.file_id,
        "captures": origin.captures,
    }


def origin_text(path: Path, origin: Origin) -> str:
    """Where a row came from, on a few lines."""
    rows = origin.rows
    pairs = {
        "file": shown(origin.file),
        "source": shown(origin.source),
        "row": f"{origin.row_in_file} of the file's {len(rows)}, counted from 0",
        "file's rows": f"{rows.start} to {rows.stop - 1}",
        "modified": _time(origin.mtime_ns),
        "committed": _time(origin.committed_ns),
        "rows xxh3": origin.rows_digest,
        "file xxh3": origin.file_digest,
    }
    head = f"row {origin.row} of {shown(str(path))}:{shown(origin.dataset)}"
    return "\n".join([head, *(f"  {key:<12} {value}" for key, value in pairs.items())])


def _time(ns: int) -> str:
    """ISO 8601, UTC, to the microsecond; what a calendar cannot hold stays a number."""
    try:
        seconds, rest = divmod(ns, 10**9)
        moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns"
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def report_json(path: Path, report: Report) -> dict[str, Any]:
    """What was read back, as a JSON object."""
    return {
        "output": str(path),
        "ok": report.ok,
        "datasets": {
            name: {"files": report.files[name], "rows": rows} for name, rows in report.rows.items()
        },
        "problem_count": report.problem_count,
        "problems": [_problem_json(problem) for problem in report.problems],
    }


def _problem_json(problem: Problem) -> dict[str, Any]:
    return {
        "dataset": problem.dataset,
        "first_row": problem.rows.start,
        "rows": len(problem.rows),
        "file": problem.file,
        "source": problem.source,
        "what": problem.what,
    }


def _summary(frame: np.ndarray) -> str:
    what = f"{frame.shape} {frame.dtype}"
    if frame.dtype.kind not in "biuf" or not frame.size:
        return what
    finite = frame[np.isfinite(frame)]
    if not finite.size:
        return f"{what}  no finite values"
    low, mean, high = finite.min(), finite.mean(dtype=np.float64), finite.max()
    missing = frame.size - finite.size
    tail = f"  not finite {missing}" if missing else ""
    return f"{what}  min {short(low)}  mean {short(mean)}  max {short(high)}{tail}"


def _compact(values: np.ndarray) -> str:
    if values.dtype.names is None:
        return " ".join(short(value) for value in values.reshape(-1))
    if values.ndim:
        return " | ".join(_compact(np.asarray(value)) for value in values)
    return " ".join(f"{shown(name)}={_compact(values[name])}" for name in values.dtype.names)


def short(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.6g}"
    if isinstance(value, (complex, np.complexfloating)):
        return f"{complex(value):.4g}"
    if isinstance(value, bytes):
        return shown(os.fsdecode(value))
    return value.tobytes().hex() if isinstance(value, np.void) else shown(str(value))


def _plain(values: np.ndarray) -> Any:
    if values.dtype.names is not None:
        if values.ndim:
            return [_plain(np.asarray(value)) for value in values]
        return {name: _plain(np.asarray(values[name])) for name in values.dtype.names}
    match values.dtype.kind:
        case "c":
            return _plain(np.stack([values.real, values.imag], axis=-1))
        case "f":
            return _each(values.astype(np.float64).tolist(), _number)
        case "S":
            return _each(values.tolist(), lambda text: text.decode("utf-8", "backslashreplace"))
        case "V":
            return _each(values.tolist(), bytes.hex)
        case "b" | "i" | "u" | "U":
            return values.tolist()
        case "M":
            return np.datetime_as_string(values).tolist()
    return _each(values.tolist(), str)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else _NON_FINITE[str(value)]


def _each(values: Any, convert: Callable[[Any], Any]) -> Any:
    if isinstance(values, list):
        return [_each(value, convert) for value in values]
    return convert(values)
