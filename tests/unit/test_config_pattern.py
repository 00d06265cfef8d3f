"""Which names a source takes."""

from __future__ import annotations

import fnmatch
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.pattern import Matcher, sample_name

SUFFIXES = frozenset({".npy", ".csv"})


@pytest.mark.parametrize(
    ("pattern", "name", "captures"),
    [
        ("auto", "a.npy", {}),
        ("auto", "A.NPY", {}),
        ("auto", "below/a.csv", {}),
        ("*.npy", "a.npy", {}),
        ("*.npy", "below/a.npy", {}),
        ("*.npy", "a\nb.npy", {}),
        ("*.npy", "a\udcff.npy", {}),
        ("a?.npy", "a\n.npy", {}),
        ("[ab]1.npy", "b1.npy", {}),
        ("[!ab]1.npy", "c1.npy", {}),
        ("[]]", "]", {}),
        ("[a", "[a", {}),
        ("a.b", "a.b", {}),
        ("raw/*.npy", "raw/a.npy", {}),
        ("**/*.npy", "a.npy", {}),
        ("**/*.npy", "a/b/c.npy", {}),
        ("{{a}}", "{a}", {}),
        ("run{run:d}_{seq:d}.npy", "run7_0012.npy", {"run": 7, "seq": 12}),
        ("{seq:04d}.npy", "0012.npy", {"seq": 12}),
        ("{seq:04d}.npy", "10012.npy", {"seq": 10012}),
        ("{y:04d}{m:02d}{d:02d}.npy", "20240131.npy", {"y": 2024, "m": 1, "d": 31}),
        ("{who}_{seq:d}.npy", "a_b_5.npy", {"who": "a_b", "seq": 5}),
        ("{who}{seq:d}.npy", "cam12.npy", {"who": "cam", "seq": 12}),
        ("*{seq:d}.npy", "cam12.npy", {"seq": 12}),
        ("{seq:d}*.npy", "12cam.npy", {"seq": 12}),
        ("{run}/{seq:d}.npy", "a b/3.npy", {"run": "a b", "seq": 3}),
        ("{who}.npy", "a\nb\udcff.npy", {"who": "a\nb\udcff"}),
        ("{t:d}.npy", "1700000000000000000.npy", {"t": 1700000000000000000}),
    ],
)
def test_a_name_that_fits_is_taken_with_its_captures(
    pattern: str, name: str, captures: dict[str, object]
) -> None:
    matcher = Matcher(pattern, SUFFIXES)

    assert matcher.match(name) == captures


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("auto", "a.txt"),
        ("auto", "npy"),
        ("*.npy", "a.NPY"),
        ("*.npy", "a.npy\n"),
        ("a*c", "a/c"),
        ("raw/*.npy", "a.npy"),
        ("raw/*.npy", "raw/b/a.npy"),
        ("[!a]b", "/b"),
        ("run{run:d}.npy", "run.npy"),
        ("run{run:d}.npy", "run\N{ARABIC-INDIC DIGIT ONE}.npy"),
        ("{seq:04d}.npy", "012.npy"),
        ("{seq:d}.npy", "9" * 19 + ".npy"),
        ("{seq:d}.npy", "9" * 40 + ".npy"),
        ("{who}.npy", ".npy"),
    ],
)
def test_a_name_that_does_not_fit_is_left(pattern: str, name: str) -> None:
    matcher = Matcher(pattern, SUFFIXES)

    assert matcher.match(name) is None


@pytest.mark.parametrize("name", [".a.npy", "a.npy.tmp", "a.part", "a.filepart", "a.npy~"])
@pytest.mark.parametrize("pattern", ["auto", "*", "{name}", "**/*", "?*"])
def test_unfinished_and_hidden_names_are_left_alone(pattern: str, name: str) -> None:
    matcher = Matcher(pattern, {*SUFFIXES, ".tmp", ".part", "~"})

    assert matcher.match(name) is None
    assert matcher.match(f"below/{name}") is None


@pytest.mark.parametrize("pattern", ["auto", "*.npy", "**/*.npy", "*/*.npy", "{run}/*.npy"])
def test_files_in_hidden_directories_are_left_alone(pattern: str) -> None:
    matcher = Matcher(pattern, SUFFIXES)

    assert matcher.match(".rsync/a.npy") is None


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (".*", ".a"),
        (".run{n:d}.npy", ".run1.npy"),
        (".in/*.npy", ".in/a.npy"),
        ("*.tmp", "a.tmp"),
        ("{n:d}.part", "1.part"),
        ("a~", "a~"),
    ],
)
def test_a_pattern_that_names_the_hidden_or_unfinished_takes_them(pattern: str, name: str) -> None:
    matcher = Matcher(pattern)

    assert matcher.match(name) is not None


def test_a_pattern_with_one_unfinished_ending_does_not_take_the_others() -> None:
    matcher = Matcher("*.tmp")

    assert matcher.match("a.tmp") == {}
    assert matcher.match("a.part") is None
    assert matcher.match(".a.tmp") is None


def test_endings_to_leave_alone_are_never_taken() -> None:
    matcher = Matcher("*", leave_alone=[".ready"])

    assert matcher.match("a.npy") == {}
    assert matcher.match("a.npy.ready") is None


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("", "write auto, a glob"),
        ("/a", "write auto, a glob"),
        ("a/", "write auto, a glob"),
        ("a\0", "write auto, a glob"),
        ("a}", "'}}' to mean itself"),
        ("a{", "'{{' to mean itself"),
        ("{a,b}.npy", "is no capture"),
        ("{}", "is no capture"),
        ("{1a:d}", "is no capture"),
        ("{a:x}", "is no capture"),
        ("{a:99d}", "is no capture"),
        ("{a:d}_{a:d}", "captures 'a' twice"),
        ("{a}{b}", "write text before it"),
        ("{a:d}{b:d}", "widths, like"),
        ("{a:02d}{b:d}", "widths, like"),
        ("[z-a]", "is no set of characters"),
        ("*a*b*c*d", "at most 3"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused_with_a_remedy(pattern: str, remedy: str) -> None:
    with pytest.raises(ValueError) as caught:
        Matcher(pattern)

    assert remedy in str(caught.value)


def test_the_types_of_captures_are_known_before_any_name() -> None:
    matcher = Matcher("{camera}_{seq:06d}.npy")

    assert matcher.captures == {"camera": str, "seq": int}


def test_hostile_names_are_decided_soon() -> None:
    matcher = Matcher("{a}_*_{b}_{n:d}.npy")
    name = "_" * 251 + ".npy"

    began = time.process_time()
    found = matcher.match(name)

    assert found is None
    assert time.process_time() - began < 10


ODD_NAMES = st.binary(min_size=1, max_size=20).map(
    lambda raw: os.fsdecode(raw.replace(b"\0", b"").replace(b"/", b"") or b"x")
)


@given(ODD_NAMES, st.sampled_from(["auto", "*", "{name}", "{name}.npy", "[!a]*", "{n:d}*"]))
def test_any_name_is_decided(name: str, pattern: str) -> None:
    found = Matcher(pattern, SUFFIXES).match(name)

    assert found is None or not name.startswith(".")


@given(st.text("ab.*?[!]-1", max_size=6), st.text("ab1]-!", min_size=1, max_size=6))
def test_globs_mean_what_they_mean_to_fnmatch(pattern: str, name: str) -> None:
    try:
        matcher = Matcher(pattern)
    except ValueError:
        return

    found = matcher.match(name)

    assert (found is not None) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    "pattern", ["auto", "*.npy", "a?{n:03d}.npy", "{x}_{n:d}.csv", "**/*.npy", "{{x}}"]
)
def test_a_sample_name_is_taken_by_its_pattern(pattern: str) -> None:
    name = sample_name(pattern, ".npy")

    assert name is not None
    assert Matcher(pattern, SUFFIXES).match(name) is not None
