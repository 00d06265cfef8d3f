"""Bad input harms nobody: it goes to quarantine with its reason, and the next file is taken."""

from __future__ import annotations

import io
import json
import os
import socket
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import INGESTD, run
from station import IS_ROOT, Station, configure, names, once, put, rows_of, save, taken

CONFIG = """
memory: 16MiB
sources:
  npy: {drop: drop/npy, output: data.h5, datasets: {/npy: {}}}
  npz: {drop: drop/npz, output: data.h5, datasets: {/npz: {member: data}}}
  csv: {drop: drop/csv, output: data.h5, datasets: {/csv: {dtype: int64}}}
"""


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.save(file, array)
    return file.getvalue()


def npz(array: np.ndarray, compressed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, data=array)
    return file.getvalue()


def zip_of(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<i8", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def encrypted() -> bytes:
    data = bytearray(npz(rows_of(1)))
    data[6] |= 1  # in the entry
    data[data.index(b"PK\x01\x02") + 8] |= 1  # in the directory
    return bytes(data)


class Deadly:
    """Would leave its mark if it were ever loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("pickle-was-loaded",)


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Deadly()], dtype=object), allow_pickle=True)
    return file.getvalue()


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def linked(path: Path) -> None:
    target = path.parents[2] / "target.npy"
    save(target, rows_of(99))
    path.symlink_to(target)


def bound(path: Path) -> None:
    os.chdir(path.parent)  # a socket's path may be too long for its address
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def a_directory(path: Path) -> None:
    path.mkdir()
    save(path / "inside.npy", rows_of(98))


@dataclass(frozen=True)
class Bad:
    """A bad file: how it comes to be, and words that its reason must hold."""

    name: str
    make: Callable[[Path], object]
    found: str
    expected: str = ""

    @property
    def source(self) -> str:
        return self.name.rpartition(".")[2]


WHOLE = rows_of(1, 500)
BAD = [
    Bad("cut.npy", written(npy(WHOLE)[:-8]), "cut short"),
    Bad("cut in header.npy", written(npy(WHOLE)[:40]), "cut"),
    Bad("empty.npy", written(b""), "empty"),
    Bad("text.npy", written(b"not an array\n" * 20), ""),
    Bad("longer.npy", written(npy(WHOLE) + b"x"), "1 more bytes"),
    Bad("pickle.npy", written(pickled()), "object"),
    Bad("float.npy", written(npy(WHOLE.astype("f8"))), "float64 (2,)", "int64 (2,)"),
    Bad("unsigned.npy", written(npy(WHOLE.astype("u8"))), "uint64 (2,)", "int64 (2,)"),
    Bad("endian.npy", written(npy(WHOLE.astype(">i8"))), ">i8", "int64 (2,)"),
    Bad("wide.npy", written(npy(np.zeros((3, 7), "i8"))), "(7,)", "int64 (2,)"),
    Bad("deep.npy", written(npy(np.zeros((3, 2, 2), "i8"))), "(2, 2)", "int64 (2,)"),
    Bad("value.npy", written(npy(np.array(3))), "a single value"),
    Bad("strings.npy", written(npy(np.array(["a", "b"]))), "<U1"),
    Bad("dates.npy", written(npy(np.array(["2020-01-01"], "M8[D]"))), "datetime64"),
    Bad("terabytes.npy", written(header((10**12, 2)) + b"\0" * 100), "cut short"),
    Bad("longest row.npy", written(header((1, 10**12)) + b"\0" * 100), "cut short"),
    Bad("n" * 251 + ".npy", written(b"bad, with a name of 255 bytes"), ""),
    Bad("\udcff\n.npy", written(b"bad, with a name of no text"), ""),
    Bad("directory.npy", a_directory, "directory"),
    Bad("pipe.npy", os.mkfifo, "pipe"),
    Bad("socket.npy", bound, "socket"),
    Bad("link.npy", linked, "symbolic link"),
    Bad("nowhere.npy", lambda path: path.symlink_to("nothing here"), "symbolic link"),
    Bad("cut.npz", written(npz(WHOLE)[:-30]), "cut short"),
    Bad("cut in the middle.npz", written(npz(WHOLE)[:500]), "cut short"),
    Bad("empty.npz", written(b""), "empty"),
    Bad("of nothing.npz", written(b"PK\x05\x06" + bytes(18)), "holds 0"),
    Bad("no arrays.npz", written(zip_of("a.txt", b"text")), "a.txt"),
    Bad("other member.npz", written(zip_of("other.npy", npy(WHOLE))), "'other'", "'data'"),
    Bad("nested.npz", written(zip_of("data.npz", npz(WHOLE))), "data.npz"),
    Bad("nested as array.npz", written(zip_of("data.npy", npz(WHOLE))), ""),
    Bad("encrypted.npz", written(encrypted()), "encrypted"),
    Bad("pickle.npz", written(zip_of("data.npy", pickled())), "object"),
    Bad("terabytes.npz", written(zip_of("data.npy", header((10**12, 2)))), "the zip holds"),
    Bad("bomb.npz", written(npz(np.zeros((2**22, 2), "i8"), compressed=True)), "promise", "ratio"),
    Bad("wide.npz", written(npz(np.zeros((3, 7), "i8"))), "(7,)", "int64 (2,)"),
    Bad("cut.csv", written(b"1,0\n1,1"), "has no newline", "newline"),
    Bad("empty.csv", written(b""), "empty"),
    Bad("ragged.csv", written(b"1,0\n1\n1,2\n"), "line 2", "2 columns"),
    Bad("text.csv", written(b"1,0\nhello,1\n"), "line 2"),
    Bad("prose.csv", written(b"It was a dark,\nand stormy night.\n"), ""),
    Bad("late text.csv", written(b"1,0\n" * 50_000 + b"1,x\n"), "line 50001"),
    Bad("too large.csv", written(b"1,99999999999999999999\n"), "line 1"),
    Bad("fraction.csv", written(b"1,0.5\n"), "line 1"),
    Bad("missing.csv", written(b"1,0\n1,\n"), "empty"),
    Bad("array.csv", written(npy(WHOLE)), ""),
]
if IS_ROOT:
    BAD.append(Bad("device.npy", lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)), "device"))


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """A daemon that was given all of this rubbish, between files that are good."""
    cwd = tmp_path_factory.mktemp("bad")
    with Station(cwd, CONFIG) as station:
        station.until(lambda: len(names(cwd / "drop")) == 3, "drop directories are made")
        for number in (1, 2):
            put(cwd / "drop/npy" / f"good{number}.npy", number)
            (cwd / "drop/npz" / f"good{number}.npz").write_bytes(npz(rows_of(number)))
            (cwd / "drop/csv" / f"good{number}.csv").write_text(f"{number},0\n{number},1\n")
            station.until_empty("drop/npy", "drop/npz", "drop/csv")
            here = Path.cwd()
            for bad in BAD if number == 1 else []:
                bad.make(cwd / "drop" / bad.source / bad.name)
            os.chdir(here)
        yield station


LONG = next(bad for bad in BAD if len(bad.name) == 255)


@pytest.mark.parametrize("bad", [b for b in BAD if b is not LONG], ids=lambda bad: ascii(bad.name))
def test_a_bad_file_is_quarantined_with_its_reason_in_one_line_of_log(
    bad: Bad, station: Station
) -> None:
    directory = station.cwd / "failed" / bad.source

    reason = json.loads((directory / f"{bad.name}.reason.json").read_text())

    assert os.path.lexists(directory / bad.name)
    assert set(reason) == {"file", "source", "expected", "found", "do", "at"}
    assert bad.found in reason["found"]
    assert bad.expected in reason["expected"]
    assert all(reason[key] for key in reason)
    lines = station.lines("quarantined", f"source={bad.source}", shown_in_log(reason["file"]))
    assert len(lines) == 1
    assert reason["found"] in lines[0]


def shown_in_log(name: str) -> str:
    return f"file={name!r}" if any(c in name for c in " '\"=") else f"file={name} "


def test_files_before_and_after_bad_ones_are_taken(station: Station) -> None:
    output = station.cwd / "data.h5"

    assert [taken(output, f"/{source}") for source in ("npy", "npz", "csv")] == [[1, 2]] * 3
    assert station.process.poll() is None
    assert station.lines("Traceback") == []


def test_pickles_and_links_in_bad_files_were_never_followed(station: Station) -> None:
    target = station.cwd / "target.npy"

    assert list(station.cwd.rglob("pickle-was-loaded")) == []
    assert np.array_equal(np.load(target), rows_of(99))
    assert (station.cwd / "failed/npy/link.npy").is_symlink()
    assert (station.cwd / "failed/npy/directory.npy/inside.npy").exists()


def test_a_file_whose_reason_would_have_too_long_a_name_is_quarantined(station: Station) -> None:
    there = [n for n in names(station.cwd / "failed/npy") if n.startswith("n" * 100)]

    assert len(there) == 2
    assert len(station.lines("quarantined", "n" * 100)) == 1
    assert LONG.name not in names(station.cwd / "drop/npy")
    assert station.lines("cannot be moved") == []


def test_retry_puts_mended_files_back_and_they_are_taken(tmp_path: Path) -> None:
    put(tmp_path / "drop/good.npy", 1)
    (tmp_path / "drop/bad.npy").write_bytes(npy(rows_of(2))[:-8])
    (tmp_path / "drop/worse.npy").write_bytes(b"")
    once(tmp_path, "sources: {a: {drop: drop, output: data.h5}}", code=1)

    save(tmp_path / "failed/a/bad.npy", rows_of(2))
    said = run("retry", "-c", "x.yaml", "--json", "bad.npy", cwd=tmp_path).stdout
    once(tmp_path)
    missing = run("retry", "-c", "x.yaml", "bad.npy", cwd=tmp_path, code=1).stderr
    run("retry", "-c", "x.yaml", cwd=tmp_path)
    once(tmp_path, code=1)

    assert json.loads(said) == {"put_back": ["failed/a/bad.npy"], "kept": []}
    assert "bad.npy: no such file in quarantine" in missing
    assert taken(tmp_path / "data.h5") == [1, 2]
    assert names(tmp_path / "failed/a") == ["worse.npy", "worse.npy.reason.json"]


def test_a_file_that_failed_twice_keeps_both_reasons(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        (tmp_path / "drop").mkdir(exist_ok=True)
        (tmp_path / "drop/bad.npy").write_bytes(content)
        once(tmp_path, "sources: {a: {drop: drop, output: data.h5}}", code=1)

    assert names(tmp_path / "failed/a") == [
        "bad.1.npy",
        "bad.1.npy.reason.json",
        "bad.npy",
        "bad.npy.reason.json",
    ]


def as_somebody(cwd: Path, *words: str, code: int = 0) -> None:
    """Run a command as a user who may not read everything: root may, unless it is taken away."""
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if IS_ROOT else []
    run(*words, "-c", "x.yaml", cwd=cwd, code=code, command=[*powerless, *INGESTD])


def test_a_file_that_may_not_be_read_is_quarantined(tmp_path: Path) -> None:
    configure(tmp_path, "sources: {a: {drop: drop, output: data.h5}}")
    put(tmp_path / "drop/1.npy", 1)
    put(tmp_path / "drop/2.npy", 2)
    (tmp_path / "drop/1.npy").chmod(0)

    as_somebody(tmp_path, "run", "--once", code=1)
    reason = json.loads((tmp_path / "failed/a/1.npy.reason.json").read_text())
    there = taken(tmp_path / "data.h5")
    (tmp_path / "failed/a/1.npy").chmod(0o644)
    as_somebody(tmp_path, "retry")
    as_somebody(tmp_path, "run", "--once")

    assert reason["found"] == "no permission to read it"
    assert "chmod" in reason["do"]
    assert there == [2]
    assert taken(tmp_path / "data.h5") == [2, 1]
