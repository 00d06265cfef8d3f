"""``ingestd.open_xarray``: an output as an xarray dataset that reads nothing until it is asked.

It holds the rows that were committed when it was opened, pickles as the file's path and its
length, and opens the file anew in each process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from ingestd.errors import UsageError
from ingestd.model import shown
from ingestd.tail import View

ZARR_DIMS = "_ARRAY_DIMENSIONS"
"""Attribute of a dataset that names its dimensions, as xarray writes it in zarr stores."""

_OPENED = "ingestd"  # what a dataset was opened with, in its encoding

Dims = Mapping[str, Sequence[str]]


def open_xarray(
    path: str | os.PathLike[str],
    datasets: Iterable[str] | None = None,
    *,
    dims: Dims | None = None,
    chunks: Any = "stored",
) -> xr.Dataset:
    """The output at ``path`` as an ``xarray.Dataset``; a longer one: ``ds.ingestd.refresh()``.

    A variable is called as the last part of its dataset's path, or as the whole path, ``/`` being
    ``_``, if two would be called the same. Its dimensions are, whichever is known first: those in
    ``dims``; its attribute ``_ARRAY_DIMENSIONS``; its NeXus group's ``axes``, if the group's
    ``signal`` names it; ``row`` (``NAME_row`` if there are several variables), ``NAME_1``, ...
    Variables that share the dimension of their rows are cut to the shortest, as one of them may
    have been looked at a moment later than another.

    :param datasets: those to open; None: all.
    :param dims: names of all of the dimensions of a dataset, by its path.
    :param chunks: dask chunks, ``"stored"`` or ``{}``: as in the file; ``"auto"``: multiples of
        these; ``None``: no dask; else see ``xarray.open_dataset``.
    :raises UsageError: dimensions do not fit, or variables share that of their rows, but not
        their files.
    """
    names = None if datasets is None else tuple(datasets)
    snapshot = _Snapshot.of(View(path), names, dims or {})
    ds = xr.open_dataset(
        snapshot, engine=_Engine, chunks={} if chunks == "stored" else chunks, cache=False
    )
    ds.encoding[_OPENED] = {"datasets": names, "dims": dims, "chunks": chunks}
    return ds


@xr.register_dataset_accessor("ingestd")
class Growing:
    """``ds.ingestd``: what a dataset can do more that :func:`open_xarray` has opened."""

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def refresh(self) -> xr.Dataset:
        """The output as it is by now, opened as before. What was computed since is not done again.

        :raises UsageError: it is not known where this dataset came from.
        """
        opened = self._ds.encoding.get(_OPENED)
        if opened is None:
            raise UsageError("only what ingestd.open_xarray gave can be refreshed: open it again")
        return open_xarray(self._ds.encoding["source"], **opened)


@dataclass(frozen=True, slots=True)
class _Variable:
    """One dataset as it was when it was looked at."""

    name: str
    dataset: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attrs: dict[str, Any]
    chunks: tuple[int, ...] | None


class _Snapshot:
    """What xarray calls the file: its path, and how long everything in it was."""

    def __init__(self, view: View, variables: list[_Variable]) -> None:
        self.path = str(view.path)
        self.view = view
        self.variables = variables
        self._version = [_version(view, v) for v in variables]

    @classmethod
    def of(cls, view: View, names: Iterable[str] | None, dims: Dims) -> _Snapshot:
        """The datasets ``names`` (None: all) of ``view``, cut to one length where they share it."""
        datasets = [view[name].name for name in (view.datasets if names is None else names)]
        asked = {view[name].name: given for name, given in dims.items()}
        called = _called(datasets)
        found = [_variable(view, d, called, asked.get(d)) for d in datasets]
        return cls(view, _together(view, found))

    def __dask_tokenize__(self) -> Any:
        return self.path, self.variables, self._version


def _version(view: View, variable: _Variable) -> str:
    """What tells these rows from those of another file that stood, or will stand, at its path."""
    rows = variable.shape[0]
    return view.trace(variable.dataset, rows - 1).rows_digest if rows else ""


def _called(datasets: Sequence[str]) -> dict[str, str]:
    """What the variable of each dataset is called."""
    last = [dataset.rsplit("/", 1)[-1] for dataset in datasets]
    called = {
        dataset: name if last.count(name) == 1 else dataset.strip("/").replace("/", "_")
        for dataset, name in zip(datasets, last, strict=True)
    }
    if len(set(called.values())) < len(datasets):
        raise UsageError(f"two of {', '.join(datasets)} would be called the same. Name some")
    return called


def _variable(
    view: View, dataset: str, called: Mapping[str, str], dims: Sequence[str] | None
) -> _Variable:
    rows, name = view[dataset], called[dataset]
    shape, attrs = rows.shape, {key: _plain(value) for key, value in rows.attrs.items()}
    zarr_dims = attrs.pop(ZARR_DIMS, None)
    default = ("row" if len(called) == 1 else f"{name}_row", *(f"{name}_{n + 1}" for n in range(9)))
    names = dims or zarr_dims or _nexus_dims(view, dataset) or default[: len(shape)]
    if isinstance(names, str) or len(names) != len(shape) or len(set(names)) < len(shape):
        raise UsageError(
            f"{shown(str(view.path))}:{shown(dataset)}: dimensions {names!r} for an array of "
            f"shape {shape}. Name each of them, once: dims={{{dataset!r}: [...]}}"
        )
    return _Variable(name, dataset, tuple(map(str, names)), shape, rows.dtype, attrs, rows.chunks)


def _nexus_dims(view: View, dataset: str) -> list[str] | None:
    """The names of the axes of an NXdata group that shows ``dataset``, see its manual:
    https://manual.nexusformat.org/classes/base_classes/NXdata.html. Axes called ``.`` have none."""
    group, name = dataset.rsplit("/", 1)
    attrs = view.work(lambda output: output.group_attributes(group or "/"))
    axes = _plain(attrs.get("axes"))
    if _plain(attrs.get("signal")) != name or axes is None:
        return None
    axes = [axes] if isinstance(axes, str) else axes
    return [axis if axis != "." else f"{name}_{n}" for n, axis in enumerate(axes)]


def _plain(value: Any) -> Any:
    """An attribute, its texts as ``str``."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        return [_plain(each) for each in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def _together(view: View, variables: list[_Variable]) -> list[_Variable]:
    """The same, those that share the dimension of their rows cut to the shortest of them."""
    sharing: dict[str, list[str]] = {}
    for v in variables:
        sharing.setdefault(v.dims[0], []).append(v.dataset)
    ends = {dim: view.lockstep(datasets) for dim, datasets in sharing.items()}
    return [replace(v, shape=(ends[v.dims[0]], *v.shape[1:])) for v in variables]


class _Array(BackendArray):
    """Rows of one dataset, read when they are asked for."""

    def __init__(self, view: View, variable: _Variable) -> None:
        self._view = view
        self._dataset = variable.dataset
        self.shape = variable.shape
        self.dtype = variable.dtype

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> Any:
        # The view may have more rows by now.
        rows = range(self.shape[0])[key[0]] if isinstance(key[0], slice) else key[0]
        if isinstance(rows, range):
            rows = slice(rows.start, rows.stop, rows.step)
        return self._view.select(self._dataset, (rows, *key[1:]))


class _Engine(BackendEntrypoint):
    """What makes xarray's variables of a :class:`_Snapshot`."""

    def open_dataset(
        self, filename_or_obj: _Snapshot, *, drop_variables: Iterable[str] | None = None
    ) -> xr.Dataset:
        dropped = set(drop_variables or ())
        return xr.Dataset(
            {
                v.name: _lazy(filename_or_obj.view, v)
                for v in filename_or_obj.variables
                if v.name not in dropped
            },
            attrs={
                key: _plain(value)
                for key, value in filename_or_obj.view.work(
                    lambda output: output.group_attributes("/")
                ).items()
            },
        )


def _lazy(view: View, v: _Variable) -> xr.Variable:
    encoding = {}
    if v.chunks is not None:
        encoding["preferred_chunks"] = dict(zip(v.dims, v.chunks, strict=True))
    data = indexing.LazilyIndexedArray(_Array(view, v))
    return xr.Variable(v.dims, data, v.attrs, encoding, fastpath=True)
