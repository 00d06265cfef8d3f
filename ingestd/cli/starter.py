"""``init`` and ``schema``: what one needs to write a config. Neither overwrites unasked."""

from __future__ import annotations

import json
import math
import re
import string
from pathlib import Path

import click
import numpy as np

import ingestd.config
from ingestd.config import INTERNAL_GROUP, Found, labels, refuse_dtype, starter
from ingestd.errors import BadFile, IngestdError, UsageError
from ingestd.formats import ArrayInfo
from ingestd.formats.registry import choose

_HEAD_BYTES = 512
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
    try:
        with sample.open("rb", buffering=0) as file:
            head = file.read(_HEAD_BYTES)
            file.seek(0)
            form = choose(sample.name, head, "auto")
            members = dict(form.open(file, form.Options()).members)
    except OSError as error:
        raise UsageError(
            f"{sample}: cannot be read ({error.strerror}); give a file that can, with --from"
        ) from None
    except BadFile as error:
        raise IngestdError(f"{sample}: {error}") from None
    found: list[Found] = []
    left_out = []
    for member, info in _wanted(members).items():
        if info.refused is not None:
            left_out.append(f"{member}: {info.refused.found}. {info.refused.remedy}")
            continue
        try:
            refuse_dtype(info.dtype)
        except ValueError as reason:
            left_out.append(f"{member}: {reason}")
        else:
            found.append(_found(member, info, {one.path for one in found}))
    if not found:
        raise IngestdError(
            f"{sample}: no array that a dataset can hold ({'; '.join(left_out) or 'it is empty'}); "
            "give another sample"
        )
    return starter(_source_name(sample), form.name, found, left_out)


def _wanted(members: dict[str, ArrayInfo]) -> dict[str, ArrayInfo]:
    """A table offers itself and each of its columns: take the table."""
    whole = members.get("data")
    if whole is not None and None in whole.shape:
        return {"data": whole}
    return {member: info for member, info in members.items() if not info.link_to}


def _found(member: str, info: ArrayInfo, taken: set[str]) -> Found:
    path = _path(member)
    name = path[1:]
    number = 2
    while path in taken:
        path, number = f"/{name}_{number}", number + 1
    # What has named fields or values has no short name, and times are stored as integers: these
    # are better taken from the first file.
    plain = info.dtype.kind not in "VmM" and not labels(info.dtype)
    dtype = _dtype_name(info.dtype) if plain else None
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
