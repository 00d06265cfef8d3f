"""What no key can tell alone: whether the keys contradict each other. Nothing touches the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from ingestd.config.captures import fields
from ingestd.config.dataset import CHUNK_BYTES_MAX, Dataset, refuse_chunks
from ingestd.config.directories import directory_conflicts, same_files, same_quarantine
from ingestd.config.dtypes import fill_value, refuse_scaleoffset
from ingestd.config.pattern import Matcher
from ingestd.config.problems import Location, Problem
from ingestd.config.source import Source
from ingestd.config.units import format_bytes
from ingestd.config.values import absolute


def conflicts(state: Path, memory: int, sources: Mapping[str, Source]) -> list[Problem]:
    """All contradictions in a config whose keys are each right."""
    problems: list[Problem] = []
    for source in sources.values():
        problems += _captures(source)
        problems += _sizes(source, memory)
        problems += _own_groups(source)
    for one, other in combinations(sources.values(), 2):
        problems += same_files(one, other)
        problems += same_quarantine(one, other)
        problems += _shared_output(one, other)
    problems += directory_conflicts(state, sources)
    return problems


def _captures(source: Source) -> Iterator[Problem]:
    """Whether ``match`` captures all that is asked of it."""
    asked: list[tuple[Location, str, Mapping[str, bool]]] = [
        (source.at("output"), str(source.output), fields(str(source.output)))
    ]
    asked += [(source.at("datasets", path), path, fields(path)) for path in source.datasets]
    asked += [(source.at("attrs", path), path, fields(path)) for path in source.attrs]
    numbers = [(source.at("order"), f"order {source.order!r}", source.order_capture)]
    for path, dataset in source.datasets.items():
        at = source.at("datasets", path, "place")
        numbers.append((at, f"place {dataset.place!r}", dataset.place_capture))
    asked += [(at, what, {name: True}) for at, what, name in numbers if name]
    captures = Matcher(source.match).captures
    for at, what, names in asked:
        for name, number in names.items():
            if name in captures and not (number and captures[name] is str):
                continue
            found = "is text" if name in captures else "is not captured"
            yield Problem(
                at,
                f"{what}: {name!r} {found} in match {source.match!r}; "
                f"put {{{name}{':d' if number else ''}}} in match",
                (source.at("match"),),
            )


def _sizes(source: Source, memory: int) -> Iterator[Problem]:
    for path, dataset in source.datasets.items():
        at = source.at("datasets", path)
        if dataset.numpy_dtype is not None:
            try:
                fill_value(dataset.numpy_dtype, dataset.fill)
            except ValueError as error:
                yield Problem((*at, "fill"), str(error), ((*at, "dtype"),))
            if "scaleoffset" in (dataset.filters or ()):
                try:
                    refuse_scaleoffset(dataset.numpy_dtype)
                except ValueError as error:
                    yield Problem((*at, "filters"), str(error), ((*at, "dtype"),))
        if dataset.chunks is not None and dataset.row_shape is not None:
            value_bytes = dataset.numpy_dtype.itemsize if dataset.numpy_dtype is not None else 1
            try:
                refuse_chunks(dataset.chunks, dataset.row_shape, value_bytes)
            except ValueError as error:
                yield Problem((*at, "chunks"), str(error), ((*at, "row_shape"),))
        row_bytes = dataset.row_bytes
        if row_bytes is None:
            continue
        about = ((*at, "dtype"), ("memory",))
        if row_bytes > memory:
            yield Problem(
                (*at, "row_shape"),
                f"a row of {row_bytes} bytes does not fit in memory {format_bytes(memory)}; "
                "raise memory, or make the row smaller",
                about,
            )
        if row_bytes * (dataset.chunk_rows or 1) > CHUNK_BYTES_MAX:
            yield Problem(
                (*at, "chunk_rows"),
                f"a chunk of {dataset.chunk_rows or 1} rows has {row_bytes} bytes each, more than "
                "HDF5's 4 GiB; write fewer rows, or auto",
                (*about, (*at, "row_shape")),
            )


def _own_groups(source: Source) -> Iterator[Problem]:
    for path in source.attrs:
        if path in source.datasets:
            yield Problem(
                source.at("attrs", path),
                f"{path!r} is a dataset; put its attributes below datasets, {path!r}, attrs",
                (source.at("datasets"),),
            )
    for inner, outer in _nested(source.datasets, [*source.datasets, *source.attrs]):
        yield Problem(
            source.at("datasets" if outer in source.datasets else "attrs", outer),
            f"{outer!r} stands below {inner!r}, which is a dataset, not a group; rename one",
            (source.at("datasets"), source.at("attrs")),
        )


def _shared_output(one: Source, other: Source) -> Iterator[Problem]:
    if absolute(one.output) != absolute(other.output):
        return
    about = (one.at("output"), other.at("output"))
    if one.output != other.output:
        yield Problem(
            other.at("output"),
            f"{str(other.output)!r} is the same file as {str(one.output)!r} of source "
            f"{one.name!r}; write it the same way in both",
            (one.at("output"),),
        )
    for path in sorted(one.datasets.keys() & other.datasets.keys()):
        mine, theirs = one.datasets[path], other.datasets[path]
        # Rows that one of them appends would stand where the other wants to put its own.
        declared = mine.model_fields_set & theirs.model_fields_set - {"member"} | {"place"}
        for key in sorted(declared):
            first, second = _declared(mine, key), _declared(theirs, key)
            if first != second:
                yield Problem(
                    other.at("datasets", path, key),
                    f"{key} is {_shown(second)} here and {_shown(first)} in source {one.name!r}, "
                    f"and both feed {path!r} of {str(one.output)!r}; declare the same in both, "
                    "or in one only",
                    (*about, one.at("datasets", path, key)),
                )
    for inner, outer in _nested(
        [*one.datasets, *other.datasets],
        [*one.datasets, *one.attrs, *other.datasets, *other.attrs],
    ):
        if (inner in one.datasets) == (outer in one.datasets or outer in one.attrs):
            continue
        owner = other if outer in other.datasets or outer in other.attrs else one
        yield Problem(
            owner.at("datasets" if outer in owner.datasets else "attrs", outer),
            f"{outer!r} stands below {inner!r}, which another source of {str(one.output)!r} makes "
            "a dataset, not a group; rename one",
            (*about, one.at("datasets"), other.at("datasets")),
        )


def _nested(datasets: Iterable[str], paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    for path in dict.fromkeys(paths):
        for dataset in dict.fromkeys(datasets):
            if path.startswith(dataset + "/"):
                yield dataset, path


def _declared(dataset: Dataset, key: str) -> Any:
    return dataset.numpy_dtype if key == "dtype" else getattr(dataset, key)


def _shown(value: Any) -> str:
    return "auto" if value is None else str(value)
