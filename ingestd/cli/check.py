"""``check``: says what is wrong, or what would happen, before anything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from ingestd.chunks import CHUNK_BYTES
from ingestd.cli import config_path
from ingestd.config import Dataset, Source, config_name, load
from ingestd.errors import ConfigError
from ingestd.formats.registry import formats, missing
from ingestd.model import RowType, counted
from ingestd.pipeline.transform import check_parts
from ingestd.sinks import DatasetSpec
from ingestd.sinks.hdf5_create import chunk_plan


@click.command()
@click.option("--sample", type=click.Path(path_type=Path), help="Say which rows FILE would become.")
@click.option("--source", "wanted", help="The source that the sample is for; default: by name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check(ctx: click.Context, sample: Path | None, wanted: str | None, as_json: bool) -> None:
    """Check the config, the directories and the formats. Writes nothing."""
    path = config_path(ctx)
    config = load(path, check_parts)
    problems = [p for source in config.sources.values() for p in _problems(source)]
    if problems:
        raise ConfigError([f"{config_name(path)}: {problem}" for problem in problems])
    if sample is not None:
        from ingestd.cli.sample import check_sample  # late: it takes HDF5, and a while to import

        check_sample(config, sample, wanted, as_json)
    elif as_json:
        click.echo(json.dumps({"config": config_name(path), "sources": list(config.sources)}))
    else:
        click.echo(f"{config_name(path)}: right")
        for source in config.sources.values():
            for name, dataset in source.datasets.items():
                target = f"{source.output}:{name}{_chunks(dataset)}"
                click.echo(f"  {source.name}: {source.drop}/ -> {target}")
        _say_formats()


def _say_formats() -> None:
    """Which formats can be read here, and what the others need."""
    install = {name: missing(format_) for name, format_ in formats().items()}
    click.echo(f"formats: {', '.join(name for name, how in install.items() if how is None)}")
    lacking = {name: how for name, how in install.items() if how is not None}
    for name, how in lacking.items():
        click.echo(f"  {name}: not installed; {how}")


def _chunks(dataset: Dataset) -> str:
    """What can be said of the chunks before a file is there."""
    if dataset.chunks is not None:
        return f", in chunks of {' x '.join(map(str, dataset.chunks))}"
    dtype, row_shape = dataset.numpy_dtype, dataset.row_shape
    if dtype is None or row_shape is None:
        return ""
    row_type = RowType(dtype, row_shape)
    plan = chunk_plan(
        DatasetSpec(
            row_type,
            dataset.chunk_rows,
            dataset.compression.name,
            file_rows=1 if dataset.stack else None,
            filters=dataset.filters,
            placed=dataset.place_capture is not None,
        )
    )
    if dataset.chunk_rows or dataset.stack or row_type.row_bytes > CHUNK_BYTES:
        return f", in {plan}"
    compressed = dataset.compression.name != "none"
    about = "" if compressed else f" of about {counted(plan.rows, 'row')}"
    return f", in chunks{about} fitted to the first file"


def _problems(source: Source) -> list[str]:
    found = []
    if source.output.is_dir():
        found.append(f"sources.{source.name}.output: {source.output} is a directory; name a file")
    directories = {"drop": source.drop, "output": source.output.parent}
    directories["quarantine"] = source.quarantine
    if source.after.directory is not None:
        directories["after"] = source.after.directory
    for key, directory in directories.items():
        there = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
        if not there.is_dir():
            found.append(f"sources.{source.name}.{key}: {there} is not a directory; remove it")
        elif not os.access(there, os.W_OK | os.X_OK):
            found.append(f"sources.{source.name}.{key}: no permission to write to {there}")
    return found
