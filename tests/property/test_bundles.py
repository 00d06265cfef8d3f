"""Small files that are decoded together give just what they give one by one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from flows import make_config, rows_of, take_all
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.layout import records_path
from ingestd.ledger import Ledger
from ingestd.pipeline import archive, decode
from ingestd.pipeline.bundle import Likes

KINDS = [
    "plain",
    "other values",
    "fortran",
    "wider",
    "other shape",
    "long",
    "empty",
    "torn",
    "more",
]
GZIP = {"compression": "gzip", "chunk_rows": 7}
FILES = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 4)), min_size=1, max_size=40)


def write(path: Path, kind: str, number: int) -> None:
    """A file of ``kind``; those of the same kind and number hold the same."""
    rows = np.arange(number, number + 12, dtype="i4").reshape(4, 3)
    match kind:
        case "other values":
            np.save(path, rows * 1000)
        case "fortran":
            np.save(path, np.asfortranarray(rows))
        case "wider":
            np.save(path, rows.astype("i8"))
        case "other shape":
            np.save(path, rows[:, :2].copy())
        case "long":
            np.save(path, np.arange(number, number + 60_000, dtype="i4").reshape(-1, 3))
        case "empty":
            np.save(path, rows[:0])
        case _:
            np.save(path, rows)
            data = path.read_bytes()
            path.write_bytes({"torn": data[:-1], "more": data + b"x"}.get(kind, data))


def taken(root: Path, files: list[tuple[str, int]], keys: dict[str, Any]) -> dict[str, Any]:
    """What becomes of ``files``: rows, records, the ledger's word and the directories."""
    config = make_config(root, more={"memory": "8MiB"}, order="name", **keys)
    for at, (kind, number) in enumerate(files):
        write(root / "drop" / f"f{at:03}.npy", kind, number)
    progress = take_all(config)
    found: dict[str, Any] = {
        "done": names(root / "done"),
        "failed": names(root / "failed"),
        "left": names(root / "drop"),
        "counts": (progress.files, progress.rows, progress.skipped, progress.quarantined),
        "reasons": [
            {**json.loads(path.read_text().replace(str(root), "")), "at": ""}
            for path in sorted((root / "failed").glob("*.json"))
        ],
    }
    if (root / "out.h5").exists():
        records = rows_of(root / "out.h5", records_path("/data"))
        fields = ["first_row", "rows", "name", "digest", "source", "file_digest", "datasets"]
        found["rows"] = rows_of(root / "out.h5").tolist()
        found["records"] = records[fields].tolist()
    ledger = Ledger(config.state / "ledger.sqlite")
    query = "SELECT name, digest, state, released, reason FROM files ORDER BY name"
    found["ledger"] = [
        (*row[:4], bool(row[4])) for row in ledger._db.execute(query) if row[2] != "quarantined"
    ]
    ledger.close()
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@settings(max_examples=40, deadline=None)
@given(
    files=FILES,
    duplicates=st.sampled_from(["skip", "append", "quarantine"]),
    dataset=st.sampled_from([{}, {"stack": True}, {"dtype": "i8"}, {"chunk_rows": 3}, GZIP]),
    after=st.sampled_from(["move", "delete"]),
)
def test_files_decoded_together_give_what_they_give_one_by_one(
    files, duplicates, dataset, after
) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.object(decode, "GRACE_SECONDS", 0.0),
        mock.patch.object(archive, "MANY", 2),
        mock.patch.object(decode, "MANY", 4),
    ):
        root = Path(directory)
        keys = {
            "duplicates": duplicates,
            "datasets": {"/data": dataset},
            "after": {"move": str(root / "one/done")} if after == "move" else "delete",
        }
        with mock.patch.object(Likes, "of", lambda self, file: None):
            expected = taken(root / "one", files, keys)
        if after == "move":
            keys["after"] = {"move": str(root / "all/done")}

        assert taken(root / "all", files, keys) == expected
