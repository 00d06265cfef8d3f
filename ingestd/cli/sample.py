"""``check --sample``: which rows a file would become."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from ingestd.chunks import ChunkPlan
from ingestd.config import Config, Source, Target
from ingestd.errors import BadFile, IngestdError, UsageError
from ingestd.formats.registry import suffixes
from ingestd.model import RowType, counted
from ingestd.pipeline.decode import SLAB_BYTES_MAX
from ingestd.pipeline.plan import (
    cast,
    check_types,
    dataset_spec,
    file_rows,
    open_as_format,
    plan_rows,
)
from ingestd.pipeline.transform import Transform, transformed, transforms
from ingestd.sinks.hdf5_create import chunk_plan
from ingestd.tail import Output


@dataclass(frozen=True)
class Rows:
    """What one dataset would get from the sample."""

    dataset: str
    member: str
    type: RowType
    rows: int
    chunks: ChunkPlan

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "dataset": self.dataset,
            "member": self.member,
            "dtype": str(self.type.dtype),
            "row_shape": self.type.row_shape,
            "rows": self.rows,
            "chunk_rows": self.chunks.rows,
        }


def check_sample(
    config: Config, sample: Path, wanted: str | None, as_json: bool, *, to_stderr: bool = False
) -> None:
    """Print what would become of ``sample``.

    :raises IngestdError: it would be quarantined.
    """
    source = _source_of(config, sample, wanted)
    try:
        captures = source.captures(sample.name)
        where = source.target(captures)
        transform = transforms(config).get(source.name)
        targets = _targets(source, where, transform, sample)
        held = _compare(where.output, targets)
    except BadFile as error:
        raise IngestdError(f"{sample}: would be quarantined: {error}") from error
    except OSError as error:
        raise UsageError(f"{sample}: {error.strerror}") from error
    if as_json:
        click.echo(
            json.dumps(
                {
                    "sample": str(sample),
                    "source": source.name,
                    "captures": captures,
                    "output": str(where.output),
                    "datasets": [target.as_json() for target in targets],
                }
            )
        )
        return
    captured = ", ".join(f"{name} = {value!r}" for name, value in captures.items())
    say = partial(click.echo, err=to_stderr)
    say(f"{sample}: taken by source '{source.name}'{captured and f', with {captured}'}")
    if not targets:
        say("  the transform returns no rows: the file would be skipped")
    for t in targets:
        # A dataset that is there keeps the chunks that it was made with.
        chunks = "" if t.dataset in held else f", in {t.chunks}"
        say(
            f"  member '{t.member}' -> {where.output}:{t.dataset}: {counted(t.rows, 'row')} of "
            f"{t.type}{chunks}"
        )


def _source_of(config: Config, sample: Path, wanted: str | None) -> Source:
    if wanted is not None:
        if wanted not in config.sources:
            raise UsageError(f"--source {wanted}: there is only {', '.join(config.sources)}")
        return config.sources[wanted]
    for source in config.sources.values():
        if source.matcher(suffixes(source.format)).match(sample.name) is not None:
            return source
    matches = ", ".join(f"{s.name} ({s.match})" for s in config.sources.values())
    raise UsageError(f"{sample}: no source matches this name: {matches}. Name one with --source")


def _targets(
    source: Source, where: Target, transform: Transform | None, sample: Path
) -> list[Rows]:
    with sample.open("rb", buffering=0) as file:
        opened = open_as_format(source, sample.name, file)
        if transform is not None:
            captures = source.captures(sample.name)
            opened = transformed(transform, opened, captures, lambda nbytes: None)
        targets = []
        plan = plan_rows(where.datasets, opened.members, partial=transform is not None)
        for path, (member, row_type) in plan.items():
            spec = where.datasets[path]
            # The whole member is read, as the daemon would: only that finds every fault.
            slabs = opened.slabs(member, SLAB_BYTES_MAX, row_type.dtype)
            rows = sum(len(cast(slab, row_type.dtype)) if slab.ndim else 1 for slab in slabs)
            rows = 1 if spec.stack else rows
            known = file_rows(spec, opened.members[member])
            chunks = replace(chunk_plan(dataset_spec(spec, row_type, known)), file_rows=rows)
            targets.append(Rows(path, member, row_type, rows, chunks))
        return targets


def _compare(path: Path, targets: list[Rows]) -> Mapping[str, RowType]:
    """What the output holds already; the sample's rows fit it."""
    if not path.exists():
        return {}
    with Output(path) as output:
        held = {name: output.row_type(name) for name in output.datasets}
    check_types(path, held, {target.dataset: target.type for target in targets})
    return held
