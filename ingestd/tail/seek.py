"""Finds where to start in an output, by row, in a few reads."""

from __future__ import annotations

from ingestd.tail.output import Output
from ingestd.tail.position import Position, fingerprint


def seek(output: Output, datasets: tuple[str, ...], start: int | str) -> Position | None:
    """The position before row ``start``, counted in order of arrival; None: it is not there yet.

    Of several datasets it is the first's row, and the position is before the file that has it.
    """
    if start == 0:
        return Position.start_of(datasets)
    counts, rows = [], 0
    if len(datasets) == 1:
        found = _row_at(output, datasets[0], start)
        if found is None:
            return None
        counts, rows = [found[0]], found[1]
    else:
        ids = _id_before(output, datasets, start)
        if ids is None:
            return None
        counts = [
            output.bisect(dataset, "file_id", ids, output.last(dataset)[0] + 1)
            for dataset in datasets
        ]
    first, last = [], []
    for dataset, count in zip(datasets, counts, strict=True):
        touched = count + bool(rows)
        first.append(fingerprint(output.records(dataset, 0, 1)[0]) if touched else "")
        last.append(
            fingerprint(output.records(dataset, touched - 1, touched)[0]) if touched else ""
        )
    return Position(datasets, tuple(counts), rows, tuple(first), tuple(last))


def _id_before(output: Output, datasets: tuple[str, ...], start: int | str) -> int | None:
    """The id of the last file that is not wanted; -1: all are; None: that is not known yet."""
    if isinstance(start, str):
        # What one dataset has, and another has not yet, is yet to come.
        lasts = [output.last(dataset)[1] for dataset in datasets]
        return min(-1 if last is None else int(last["file_id"]) for last in lasts)
    found = _row_at(output, datasets[0], start)
    if found is None:
        return None
    index = found[0]
    return int(output.records(datasets[0], index - 1, index)["file_id"][0]) if index else -1


def _row_at(output: Output, dataset: str, start: int | str) -> tuple[int, int] | None:
    """The record that has row ``start`` by arrival, and the row in it; None: not there yet."""
    count, records = output.count(dataset), output.last(dataset)[0] + 1
    row = count if isinstance(start, str) else start if start >= 0 else max(0, count + start)
    if row >= count:
        return (records, 0) if row == count else None
    if not output.placed(dataset):
        index = output.locate(dataset, row)
        return index, row - int(output.records(dataset, index, index + 1)["first_row"][0])
    return output.arrival(dataset, row)
