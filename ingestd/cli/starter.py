"""``init`` and ``schema``: what one needs to write a config. Neither overwrites unasked."""

from __future__ import annotations

import json
import math
import re
import string
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

import ingestd.config
from ingestd.config import INTERNAL_GROUP, Found, labels, load, refuse_dtype, starter
from ingestd.errors import BadFile, IngestdError, UsageError
from ingestd.formats import ArrayInfo, Format
from ingestd.formats.csvguess import guess
from ingestd.formats.registry import choose, suffixes

_HEAD_BYTES = 512
LEFT_OUT_MAX = 10
TEXT_BYTES = 64
"""What texts of no stated width get, where a format asks for one."""

_ROW_BYTES_MAX = 256 * 2**20  # what the default of memory lets through
_NAME_CHARACTERS = string.ascii_letters + string.digits + "_.-"


@click.command()
@click.option(
    "--from",
    "sample",
    type=click.Path(path_type=Path),
    help="A file like those to come: format, dtypes and shapes are taken from it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    default=Path("ingestd.yaml"),
    show_default=True,
    help="Where to write it; - for the terminal.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def init(sample: Path | None, output: Path, force: bool) -> None:
    """Write a commented starter config."""
    text = starter() if sample is None else _from_sample(sample)
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            f"{output}: is already there; write elsewhere with -o, or over it with --force"
        ) from None
    except OSError as error:
        raise IngestdError(
            f"{output}: cannot be written ({error.strerror}); write elsewhere with -o"
        ) from None
    click.echo(f"wrote {output}; look through it, then: ingestd check -c {output}")


@click.command()
def schema() -> None:
    """Print the config's JSON Schema, for editors."""
    click.echo(json.dumps(ingestd.config.schema(), indent=2))


def _from_sample(sample: Path) -> str:
    """The config for files like ``sample``, which it takes: that is tried.

    :raises IngestdError: there is none, with what to do.
    """
    try:
        text = _written(sample)
    except OSError as error:
        raise UsageError(
            f"{sample}: cannot be read ({error.strerror}); give a file that can, with --from"
        ) from None
    except BadFile as error:
        raise IngestdError(f"{sample}: {error}") from None
    from ingestd.cli.sample import check_sample  # late: it takes HDF5, and a while to import

    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "ingestd.yaml"
        config.write_text(text, encoding="utf-8")
        check_sample(load(config), sample, None, as_json=False, to_stderr=True)
    return text


def _written(sample: Path) -> str:
    with sample.open("rb", buffering=0) as file:
        head = file.read(_HEAD_BYTES)
        form = choose(sample.name, head, "auto")
        guessed = guess(file) if form.name == "csv" else None
        options = dict(guessed.options) if guessed else {}
        members, options = _opened(form, file, options)
        members = _wanted(members)
        found: list[Found] = []
        left_out: list[str] = []
        for member, info in members.items():
            one = _found(member, info, {other.path for other in found})
            if isinstance(one, Found):
                found.append(replace(one, columns=guessed.dtypes) if guessed else one)
            else:
                left_out.append(f"{member}: {one}")
    if not found:
        raise IngestdError(
            f"{sample}: no array that a dataset can hold ({'; '.join(left_out) or 'it is empty'}); "
            "give another sample"
        )
    claimed = sample.name.lower().endswith(tuple(suffixes()))
    match = "auto" if claimed else f"*{sample.suffix}"
    return starter(
        _source_name(sample),
        form.name,
        found,
        left_out[:LEFT_OUT_MAX],
        match=match,
        proposed=_proposed(sample.name),
        options=options,
    )


def _opened(
    form: Format, file: BinaryIO, options: dict[str, Any]
) -> tuple[dict[str, ArrayInfo], dict[str, Any]]:
    """The members, and the options that it took to see them."""
    file.seek(0)
    try:
        return dict(form.open(file, form.Options(**options)).members), options
    except BadFile:
        if "string_bytes" not in form.Options.model_fields:
            raise
        options = {**options, "string_bytes": TEXT_BYTES}
        file.seek(0)
        return dict(form.open(file, form.Options(**options)).members), options


def _wanted(members: dict[str, ArrayInfo]) -> dict[str, ArrayInfo]:
    """A table offers itself and each of its columns: take the table. An HDF5 file of arrays holds
    many single values beside them, which are no rows."""
    whole = members.get("data")
    if whole is not None and (None in whole.shape or whole.dtype.names):
        return {"data": whole}
    members = {member: info for member, info in members.items() if not info.link_to}
    arrays = {m: info for m, info in members.items() if info.shape or m[:1] != "/"}
    return arrays if any(info.shape for info in arrays.values()) else members


def _proposed(name: str) -> str | None:
    """``run3_0012.npy`` as ``run{run:d}_{n2:d}.npy``; None: there are no numbers in it."""
    taken: set[str] = set()

    def capture(match: re.Match[str]) -> str:
        word = re.search(r"[A-Za-z_]*$", name[: match.start()])
        called = word[0].strip("_").lower() if word else ""
        if not called or called in taken:
            called = f"n{len(taken) + 1}"
        taken.add(called)
        return f"{{{called}:d}}"

    stem, dot, suffix = name.partition(".")
    pattern = re.sub(r"[0-9]+", capture, stem) + dot + suffix
    return pattern if taken and "{" not in name else None


def _found(member: str, info: ArrayInfo, taken: set[str]) -> Found | str:
    """The dataset for a member, or why there can be none."""
    if info.refused is not None:
        return f"{info.refused.found}. {info.refused.remedy}"
    # Unicode is stored as UTF-8, of the bytes that its characters may take.
    stored = np.dtype(f"S{max(16, info.dtype.itemsize)}") if info.dtype.kind == "U" else info.dtype
    try:
        refuse_dtype(stored)
    except ValueError as reason:
        return str(reason)
    path = _path(member)
    name = path[1:]
    number = 2
    while path in taken:
        path, number = f"/{name}_{number}", number + 1
    # What has named fields or values has no short name, and times are stored as integers: these
    # are better taken from the first file.
    plain = info.dtype.kind not in "VmM" and not labels(info.dtype)
    dtype = _dtype_name(stored) if plain else None
    sizes = [size for size in info.shape[1:] if size is not None]
    usual = 0 < math.prod(sizes) * info.dtype.itemsize <= _ROW_BYTES_MAX
    # An array without axes has no axis to hold rows: all of it is one.
    return Found(path, dtype, tuple(sizes) if usual else None, member, stack=not info.shape)


def _path(member: str) -> str:
    """A dataset's path for ``member``, which may be a path itself."""
    parts = member[1:].split("/") if member.startswith("/") else [member]
    named = [re.sub(r"[^A-Za-z0-9_.-]", "_", part).strip(".") for part in parts]
    path = "/" + "/".join(name or "data" for name in named)
    taken = path == INTERNAL_GROUP or path.startswith(f"{INTERNAL_GROUP}/")
    return path.replace(INTERNAL_GROUP, f"{INTERNAL_GROUP}_", 1) if taken else path


def _dtype_name(dtype: np.dtype) -> str:
    return dtype.name if dtype.isnative and dtype.kind in "biufc" else dtype.str


def _source_name(sample: Path) -> str:
    """The words a file's name starts with: ``run_0012.npy`` is of source ``run``."""
    kept = "".join(c if c in _NAME_CHARACTERS else "_" for c in sample.stem)
    return kept.rstrip(string.digits).strip("_.-")[:64] or "frames"
