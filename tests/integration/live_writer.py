"""A plain SWMR writer of outputs, driven line by line on stdin, to be killed at any moment.

    python live_writer.py PATH [--dataset /data] [--row-shape 4] [--compression gzip]

It starts as a daemon would after a crash: marks cleared, uncommitted rows cut, SWMR on again.
Each command is answered by one line, when its rows can be seen:

    append FILES ROWS    so many files of so many rows each, with their records
    rows ROWS            rows without a record: not committed
    record               a record for all rows that have none
    cut FILES            the last so many records and their rows, as recovery may do
    wrong                the last row changed under its record
    add DATASET          another dataset, by closing and opening the file
    forever              append files of 1 to 7 rows until killed, answering each

Row r of the file holds r in each of its values.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import xxhash

from ingestd import layout, superblock

NAME = b"run \xff\n{}.npy"
"""Names as mean as they come: blanks, a byte that is not UTF-8, a line break."""


class Writer:
    """One output with one or more datasets; commands go to the first."""

    def __init__(self, path: Path, dataset: str, row_shape: tuple[int, ...], compression: str):
        self.path = path
        self.dataset = dataset
        self.row_shape = row_shape
        self.filters = {"gzip": {"compression": "gzip"}, "zstd": hdf5plugin.Zstd()}.get(
            compression, {}
        )
        if not path.exists():
            temporary = path.with_name(path.name + ".part")
            with h5py.File(temporary, "w", libver=("v110", "v114")) as file:
                self._create(file, dataset)
            temporary.rename(path)
        self.mend()
        self.open(cut_files=0)

    def open(self, cut_files: int) -> None:
        self.file = h5py.File(self.path, "r+", libver=("v110", "v114"), locking=False)
        self.rows = self.file[self.dataset]
        self.records = self.file[layout.records_path(self.dataset)]
        if cut_files:
            self.records.resize(len(self.records) - cut_files, axis=0)
            self.file.flush()
        if len(self.rows) > self.committed:
            self.rows.resize(self.committed, axis=0)
        self.file.flush()
        self.file.swmr_mode = True

    @property
    def committed(self) -> int:
        return layout.committed_rows(self.records[-1] if len(self.records) else None)

    def mend(self) -> None:
        with self.path.open("r+b") as file:
            head = superblock.parse(file.read(superblock.SUPERBLOCK_BYTES_MAX), 0)
            new = superblock.mended(head, self.path.stat().st_size)
            if new is not None:
                file.seek(0)
                file.write(new)

    def append(self, files: int, rows: int) -> None:
        for _ in range(files):
            self.add_rows(rows)
            self.record()

    def add_rows(self, rows: int) -> None:
        start = len(self.rows)
        self.rows.resize(start + rows, axis=0)
        values = np.arange(start, start + rows, dtype=self.rows.dtype)
        self.rows[start:] = np.broadcast_to(
            values.reshape(-1, *(1 for _ in self.row_shape)), (rows, *self.row_shape)
        )
        self.rows.flush()

    def record(self) -> None:
        first, index = self.committed, len(self.records)
        rows = self.rows[first:]
        record = np.zeros((), layout.RECORD)
        record["first_row"], record["rows"] = first, len(rows)
        record["name"] = NAME.replace(b"{}", str(index).encode())
        record["source"] = b"frames"
        record["digest"] = xxhash.xxh3_128_hexdigest(rows.tobytes()).encode()
        record["file_digest"] = b"0" * 32
        record["mtime_ns"] = 1_700_000_000_123_456_789
        record["committed_ns"] = time.time_ns()
        record["file_id"] = index + 1
        self.records.resize(index + 1, axis=0)
        self.records[index] = record
        self.records.flush()

    def cut(self, files: int) -> None:
        self.file.close()
        self.open(files)

    def wrong(self) -> None:
        self.rows[-1] = self.rows[-1] + 1
        self.rows.flush()

    def add(self, dataset: str) -> None:
        self.file.close()
        with h5py.File(self.path, "r+", libver=("v110", "v114"), locking=False) as file:
            self._create(file, dataset)
        self.open(cut_files=0)

    def _create(self, file: h5py.File, dataset: str) -> None:
        file.create_dataset(
            dataset,
            shape=(0, *self.row_shape),
            maxshape=(None, *self.row_shape),
            chunks=(16, *self.row_shape),
            dtype="<f8",
            **self.filters,
        )
        file.create_dataset(
            layout.records_path(dataset),
            shape=(0,),
            maxshape=(None,),
            chunks=(layout.RECORDS_PER_CHUNK,),
            dtype=layout.RECORD,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=lambda text: Path(os.fsdecode(text)))
    parser.add_argument("--dataset", default="/data")
    parser.add_argument("--row-shape", type=int, nargs="*", default=[4])
    parser.add_argument("--compression", default="none")
    given = parser.parse_args()
    writer = Writer(given.path, given.dataset, tuple(given.row_shape), given.compression)
    answer(writer)
    for command in sys.stdin:
        obey(writer, *command.split())
        answer(writer)


def obey(writer: Writer, command: str, *given: str) -> None:
    match command:
        case "append":
            writer.append(int(given[0]), int(given[1]))
        case "rows":
            writer.add_rows(int(given[0]))
        case "record":
            writer.record()
        case "cut":
            writer.cut(int(given[0]))
        case "wrong":
            writer.wrong()
        case "add":
            writer.add(given[0])
        case "forever":
            for rows in itertools.cycle(range(1, 8)):
                writer.append(1, rows)
                answer(writer)
        case _:
            raise SystemExit(f"no such command: {command}")


def answer(writer: Writer) -> None:
    print(writer.committed, flush=True)


if __name__ == "__main__":
    main()
