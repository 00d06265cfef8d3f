"""What a file's members become: which dataset each feeds, as rows of which type.

Nothing here reads rows or writes; a file that does not fit is refused, in words for its sender.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ingestd.config import (
    Dataset,
    Source,
    as_utf8,
    columns_of,
    converts,
    fill_value,
    holds_unicode,
    labels,
    refuse_chunks,
    refuse_dtype,
    refuse_scaleoffset,
    stored_dtype,
)
from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo, OpenFile
from ingestd.formats.registry import choose
from ingestd.layout import units_attrs, units_of
from ingestd.model import RowType
from ingestd.sinks import DatasetSpec


def open_as_format(source: Source, name: str, file: BinaryIO) -> OpenFile:
    """Open ``file`` with the format that the source names, or that its name and content tell.

    :raises BadFile: no format takes it.
    """
    head = file.read(512)
    file.seek(0)
    form = choose(name, head, source.format)
    return form.open(file, form.Options(**source.options))


def plan_rows(
    datasets: Mapping[str, Dataset], members: Mapping[str, ArrayInfo], *, partial: bool = False
) -> dict[str, tuple[str, RowType]]:
    """For each dataset: the member that feeds it, and the rows it will give.

    ``partial``: the members are a transform's, which may feed some of them only; but each member
    has to feed one.

    :raises BadFile: a member is missing, or not what the config declares.
    """
    plan = {}
    for path, dataset in datasets.items():
        member = _member(path, dataset, members, partial)
        if member is not None:
            plan[path] = (member, _row_type(dataset, member, members[member]))
        elif not partial:
            raise _no_member(path, dataset, members)
    idle = members.keys() - {member for member, _ in plan.values()} if partial else ()
    if idle:
        raise BadFile(
            f"arrays by dataset or member from the transform, for {', '.join(datasets)}",
            f"others: {', '.join(map(repr, sorted(idle)))}",
            "Return them by the dataset's path, or set 'member' of one to them",
        )
    return plan


def _member(
    path: str, dataset: Dataset, members: Mapping[str, ArrayInfo], partial: bool
) -> str | None:
    for name in _wanted(path, dataset):
        # Formats of a tree of groups (HDF5) give whole paths, which begin with a slash.
        for full in (name, f"/{name.strip('/')}"):
            if full in members:
                return full
    usable = [name for name, info in members.items() if not info.refused and not info.link_to]
    only = usable[0] if len(usable) == 1 else None
    # The path of another dataset, from a transform, is not meant for this one.
    return only if only and not dataset.member and not (partial and only[0] == "/") else None


def _wanted(path: str, dataset: Dataset) -> list[str]:
    return [dataset.member] if dataset.member else [path, path.rsplit("/", 1)[-1], "data"]


def _no_member(path: str, dataset: Dataset, members: Mapping[str, ArrayInfo]) -> BadFile:
    if columns := columns_of(dataset.member):
        there = [name for name in members if name != "data"]
        lacking = [name for name in columns if name not in members]
        return BadFile(
            f"the columns {', '.join(columns)} for {path}",
            f"no column {', '.join(map(repr, lacking))}; it has {', '.join(there) or 'no names'}",
            f"Correct the file's header, or 'member' of {path}",
        )
    return BadFile(
        f"a member '{_wanted(path, dataset)[-2:][0]}' for {path}",
        f"members {', '.join(repr(m) for m in list(members)[:20]) or '(none)'}",
        f"Set 'member' of {path} to one of them",
    )


def _row_type(dataset: Dataset, member: str, info: ArrayInfo) -> RowType:
    if info.refused is not None:
        why = info.refused
        raise BadFile(why.expected, f"'{member}': {why.found}", why.remedy)
    dtype, units = _dtype(dataset, member, info)
    if dataset.stack:
        shape = info.shape
    elif info.shape:
        shape = info.shape[1:]
    else:
        raise BadFile(
            "an array with rows along axis 0",
            f"'{member}' is a single value",
            "Set 'stack: true' to make each file one row",
        )
    if None in shape:
        raise BadFile(
            "an array whose size is known beforehand ('stack: true')",
            f"'{member}' is text, its rows are not known before it is read",
            "Leave 'stack' out",
        )
    row_shape = tuple(int(n) for n in shape if n is not None)
    if 0 in row_shape:
        raise BadFile(
            "rows that hold something",
            f"'{member}' has rows of shape {row_shape}",
            "Leave such files out",
        )
    if dataset.row_shape is not None and row_shape != dataset.row_shape:
        raise BadFile(
            f"rows of shape {dataset.row_shape} (the config's row_shape)",
            f"'{member}' has rows of shape {row_shape}",
            "Correct the file, or send files of another shape to a dataset of their own",
        )
    return RowType(dtype, row_shape, {**units_of(dataset.attrs), **units})


def _dtype(
    dataset: Dataset, member: str, info: ArrayInfo
) -> tuple[np.dtype[Any], Mapping[str, str]]:
    """The dtype that the rows will have, and the units of the times in it."""
    given, units = stored_dtype(info.dtype)
    wanted = dataset.numpy_dtype or given
    if wanted is given or given.hasobject:
        try:
            refuse_dtype(info.dtype)
        except ValueError as error:
            raise BadFile(
                "values that a growing HDF5 dataset can hold",
                f"'{member}': {error}",
                "Save it in that form, or give that 'dtype' in the dataset's config"
                if not given.hasobject
                else "Save it in that form",
            ) from None
    dtype, _ = stored_dtype(wanted)
    # Text becomes what is asked for, or is refused where it is read.
    is_text = info.shape[0:1] == (None,)
    if is_text or holds_unicode(given):
        dtype = as_utf8(dtype)
    fits = is_text or converts(given, dtype)
    if not fits or (units and dtype.newbyteorder("=") != given.newbyteorder("=")):
        raise BadFile(
            f"{dtype} (the config's dtype)",
            f"'{member}' is {info.dtype}, which does not convert to it",
            "Leave 'dtype' out: times are stored as int64, with their unit in an attribute"
            if units
            else f"Convert the file to {dtype}, or send such files to a dataset of their own",
        )
    return dtype, units


def cast(slab: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``slab`` as ``dtype``; values that do not fit are refused, floats are rounded.

    :raises BadFile: a value does not fit.
    """
    if slab.dtype.kind in "mM":
        slab = slab.view(f"{slab.dtype.byteorder}i8")
    if slab.dtype == dtype:
        return slab
    if dtype.names and slab.dtype.names:
        rows = np.empty(slab.shape, dtype)
        for name, given in zip(dtype.names, slab.dtype.names, strict=True):
            rows[name] = cast(slab[given], dtype[name].base)
        return rows
    if slab.dtype.kind == "U":
        slab = _encoded(slab)
    try:
        with np.errstate(all="ignore", over="raise"):
            rows = slab.astype(dtype)
    except FloatingPointError:
        raise BadFile(f"numbers that fit {dtype}", "larger ones", _wider(slab.dtype)) from None
    if slab.dtype.kind in "iu" and dtype.kind in "iu" and not np.array_equal(rows, slab):
        raise BadFile(
            f"integers that fit {dtype}",
            f"values from {slab.min()} to {slab.max()}",
            _wider(slab.dtype),
        )
    if dtype.kind == "S" and not np.array_equal(rows, slab.astype("S")):
        raise BadFile(
            f"text of {dtype.itemsize} bytes or less (the config's dtype)",
            f"longer text, of dtype {slab.astype('S').dtype.str[1:]}",
            "Set a wider 'dtype'",
        )
    return rows


def _encoded(text: np.ndarray) -> np.ndarray:
    """Unicode as bytes of UTF-8."""
    try:
        return text.astype("S")
    except UnicodeEncodeError:
        pass  # not ASCII, and slower
    try:
        return np.char.encode(text, "utf-8")
    except UnicodeEncodeError as error:
        raise BadFile("text that UTF-8 can hold", str(error), "Correct the text") from None


def _wider(dtype: np.dtype) -> str:
    return (
        f"Set 'dtype: {dtype}' before the dataset is begun; one that is there keeps its dtype: "
        "send these to a dataset of their own"
    )


def check_types(output: Path, held: Mapping[str, RowType], wanted: Mapping[str, RowType]) -> None:
    """Refuse rows of another kind than the dataset of ``output`` holds.

    :raises BadFile: naming both.
    """
    for path, row_type in wanted.items():
        there = held.get(path, row_type)
        if there != row_type:
            raise BadFile(
                f"rows of {there}, as {output}:{path} holds",
                f"rows of {row_type}",
                f"Set 'dtype: {there.dtype}' to convert them, if their values fit, then: ingestd "
                "retry; else send them to a dataset of their own"
                if there.row_shape == row_type.row_shape
                and there.units == row_type.units
                and np.can_cast(row_type.dtype, there.dtype, "same_kind")
                else "Send files of another kind to a dataset of their own",
            )
        # NumPy takes enumerations for equal whose values have other names. No names are no others.
        names, known = labels(row_type.dtype), labels(there.dtype)
        if any(known.get(field) != of_values for field, of_values in names.items()):
            raise BadFile(
                f"values named {known or 'not at all'}, as in {output}:{path}",
                f"values named {names}",
                "Send files of another kind to a dataset of their own",
            )


def file_rows(dataset: Dataset, info: ArrayInfo) -> int | None:
    """How many rows of ``dataset`` the member ``info`` is; None: not known before it is read."""
    return 1 if dataset.stack else info.shape[0]


def dataset_spec(dataset: Dataset, row_type: RowType, file_rows: int | None = None) -> DatasetSpec:
    """The dataset as it shall be made for rows of ``row_type``, so many of them in a file.

    :raises BadFile: the config's fill, chunks, filters or attributes do not fit them.
    """
    _refuse_storage(dataset, row_type)
    try:
        fill = None if dataset.fill == 0 else fill_value(row_type.dtype, dataset.fill)
    except ValueError as error:
        raise BadFile(f"a dtype that can be {dataset.fill!r}", str(error), "Set 'fill'") from None
    return DatasetSpec(
        row_type,
        dataset.chunk_rows,
        dataset.compression.name,
        dataset.compression.level,
        fill,
        {**units_attrs(row_type.units), **dataset.attrs},
        file_rows,
        dataset.chunks,
        dataset.filters,
        placed=dataset.place_capture is not None,
        keyed=dataset.keys,
    )


def _refuse_storage(dataset: Dataset, row_type: RowType) -> None:
    try:
        if dataset.chunks is not None:
            refuse_chunks(dataset.chunks, row_type.row_shape, row_type.dtype.itemsize)
        if "scaleoffset" in (dataset.filters or ()):
            refuse_scaleoffset(row_type.dtype)
    except ValueError as error:
        raise BadFile(
            "rows that can be stored as the config says",
            str(error),
            "Correct the dataset's config, then: ingestd retry",
        ) from None
    for name, unit in units_attrs(row_type.units).items():
        if dataset.attrs.get(name, unit) != unit:
            raise BadFile(
                f"values in {dataset.attrs[name]!r} (the config's attribute {name!r})",
                f"times in {unit}, which that attribute would tell",
                f"Take {name!r} out of 'attrs', then: ingestd retry",
            )
