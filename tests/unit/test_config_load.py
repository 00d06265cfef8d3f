"""From text to a config: what is taken, and how mistakes are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.config import After, Config, Problem, Settle, config_name, load
from ingestd.errors import ConfigError
from ingestd.formats.registry import check_formats

SOURCE = """\
sources:
  frames:
    drop: drop/frames
    output: data/frames.h5
"""


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str | bytes) -> Config:
    path = Path("c.yaml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, check_formats)


def mistakes(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    assert caught.value.exit_code == 78
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def only_mistake(text: str | bytes) -> str:
    found = mistakes(text)
    assert len(found) == 1, found
    return found[0]


def test_without_a_file_the_built_in_config_holds() -> None:
    config = load(None)

    source = config.sources["ingest"]
    assert config.path is None
    assert config_name(None) == "built-in config"
    assert (source.drop, source.output) == (Path("drop"), Path("data/ingest.h5"))
    assert list(source.datasets) == ["/data"]
    assert source.after == After("move", Path("done"))
    assert source.quarantine == Path("failed")
    assert config.state == Path("state")


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("reserve: 0\n", 0), ("reserve: 1GiB\n", 1 << 30)]
)
def test_the_reserve_is_a_size(text: str, size: int) -> None:
    assert loaded(SOURCE + text).reserve == size


def test_a_config_in_the_working_directory_is_found() -> None:
    Path("ingestd.yaml").write_text(SOURCE)

    config = load(None)

    assert config.path == Path("ingestd.yaml")
    assert config_name(None) == "ingestd.yaml"
    assert list(config.sources) == ["frames"]


def test_defaults_that_depend_on_the_name_are_filled_in() -> None:
    source = loaded(SOURCE).sources["frames"]

    assert source.name == "frames"
    assert source.after == After("move", Path("done/frames"))
    assert source.quarantine == Path("failed/frames")
    assert source.settle == Settle("closed")


def test_what_is_left_empty_keeps_its_default() -> None:
    config = loaded(
        "workers:\ncommit:\n" + SOURCE + "    match:\n    options:\n    datasets:\n      x:\n"
    )

    assert config.workers == 2
    assert config.commit.every == 1.0
    assert config.sources["frames"].match == "auto"
    assert list(config.sources["frames"].datasets) == ["/x"]


def test_dataset_paths_are_normalised() -> None:
    config = loaded(SOURCE + "    datasets: {entry//data/: {}, /x: {}}\n")

    assert list(config.sources["frames"].datasets) == ["/entry/data", "/x"]


@pytest.mark.parametrize(
    ("text", "settle"),
    [
        ("renamed", Settle("renamed")),
        ("quiet:2s", Settle("quiet", seconds=2.0)),
        ("quiet:250ms", Settle("quiet", seconds=0.25)),
        ("marker:.ready", Settle("marker", suffix=".ready")),
    ],
)
def test_ways_to_settle_are_read_and_written(text: str, settle: Settle) -> None:
    source = loaded(SOURCE + f"    settle: {text}\n").sources["frames"]

    assert source.settle == settle
    assert str(source.settle) == text


def test_markers_are_never_taken_for_drop_files() -> None:
    source = loaded(SOURCE + "    settle: marker:.ok\n    match: '*'\n").sources["frames"]

    matcher = source.matcher({".npy"})

    assert matcher.match("a.npy") == {}
    assert matcher.match("a.npy.ok") is None


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("keep", After("keep")),
        ("delete", After("delete")),
        ("{move: a/b}", After("move", Path("a/b"))),
    ],
)
def test_fates_of_done_files_are_read(text: str, after: After) -> None:
    assert loaded(SOURCE + f"    after: {text}\n").sources["frames"].after == after


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
memroy: 1GiB
workers: 0
commit: {every: 3 parsecs, durability: syncd}
sources:
  frames:
    drop: drop
    drop: drop2
    output: data/f.h5
    order: '{seq}'
    match: 'a{seq}.npy'
    settle: quite:2s
    quarantine: drop
    datasets:
      data: {dtype: U8}
      data/x: {dtype: u1, fill: -1, colour: red, compression: "gzip:12"}
  other:
    output: 5
"""

    found = mistakes(text)

    assert [problem.split(": ")[0].removeprefix("c.yaml:") for problem in found] == [
        "1:1",
        "2:10",
        "3:17",
        "3:40",
        "7:5",
        "9:12",
        "11:13",
        "12:17",
        "14:21",
        "15:15",
        "15:33",
        "15:37",
        "15:63",
        "16:3",
        "17:13",
    ]


@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ("    machh: x\n", "5:5: unknown key 'machh'; did you mean 'match'?"),
        ("    name: x\n", "5:5: unknown key 'name'; the source is called 'frames'"),
        ("    format: nyp\n", "5:13: 'nyp' is no format; did you mean 'npz'?"),
        ("    duplicates: kip\n", "5:17: duplicates: 'kip' is not known; did you mean 'skip'?"),
        ("    recursive: 1\n", "5:16: recursive: found 1; write true or false"),
        ("    recursive: 'yes'\n", "5:16: recursive: found 'yes'; write true or false"),
        ("    settle: quiet:0s\n", "5:13: settle: 'quiet:0s' waits for nothing"),
        ("    settle: marker:a/b\n", "5:13: settle: 'marker:a/b' is no way to settle"),
        ("    after: {mv: x}\n", "5:12: after: {'mv': 'x'} is no fate of a done file"),
        ("    order: {seq}\n", "5:12: order: braces without quotes"),
        ("    order: seq\n", "5:12: order: 'seq' is no order"),
        ("    options: 5\n", "5:14: options: found 5; write a mapping"),
        ("    quarantine: ~/x\n", "5:17: quarantine: '~/x': '~' is not expanded"),
        ("    quarantine: ''\n", "5:17: quarantine: '' is not a path"),
        ("    datasets: {}\n", "5:15: datasets: no dataset is named"),
        ("    datasets: {/: {}}\n", "5:16: '/' is a group, not a dataset"),
        ("    datasets: {a/..: {}}\n", "5:16: 'a/..' is no path in an HDF5 file"),
        ("    datasets: {a: {}, /a: {}}\n", "5:15: datasets: 'a' and '/a' are the same dataset"),
        ("    datasets: {ingestd/a: {}}\n", "5:16: 'ingestd/a' stands below /ingestd"),
        ("    datasets: {a: {colour: 1}}\n", "5:20: unknown key 'colour'; write member, dtype"),
        ("    datasets: [a]\n", "5:15: datasets: found ['a']; write a mapping"),
        ("    attrs: {a: 5}\n", "5:16: a: 5 are no attributes"),
        ("    drop: x\n", "5:5: 'drop' is already set in line 3"),
        ("  2 x: {drop: d, output: o}\n", "5:3: '2 x' is no name of a source"),
        ("  x:\n    output: o\n", "5:3: 'drop' is missing; write it: Directory in which"),
        ("workers: 65\n", "5:10: workers: write what is less than or equal to 64, not 65"),
        ("workers: true\n", "5:10: workers: found True; write a whole number"),
        ("memory: 1MiB\n", "5:9: memory: 1048576 bytes are too few"),
        ("reserve: 1MiB\n", "5:10: reserve: 1048576 bytes are soon used up; write 16MiB or more"),
        ("memory: -1\n", "5:9: memory: -1 is not a size; write a size like 256MiB"),
        ("scan: 0\n", "5:7: scan: 0 seconds between scans; write 10ms to 1d"),
        ("commit: 5\n", "5:9: commit: found 5; write a mapping"),
        ("commit: {evry: 1s}\n", "5:10: unknown key 'evry'; did you mean 'every'?"),
    ],
)
def test_a_mistake_is_reported_where_it_stands(addition: str, problem: str) -> None:
    found = only_mistake(SOURCE + addition)

    assert found.startswith(f"c.yaml:{problem}")


@pytest.mark.parametrize(
    ("addition", "place"),
    [
        ("    roll: 1d\n", "5:5"),
        ("    keep: 7d\n", "5:5"),
        ("    publish: s3\n", "5:5"),
        ("    stream: kafka\n", "5:5"),
        ("publish: s3\n", "5:1"),
        ("http: 127.0.0.1:9464\n", "5:7"),
    ],
)
def test_what_a_later_version_serves_is_refused_as_not_supported_yet(
    addition: str, place: str
) -> None:
    found = only_mistake(SOURCE + addition)

    assert found.startswith(f"c.yaml:{place}: ")
    assert "not supported yet" in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: the config is empty; write at least: sources:"),
        ("# nothing\n", "1:1: the config is empty"),
        ("- 1\n", "1:1: found [1]; write a mapping"),
        ("sources: {}\n", "1:10: sources: no source is named"),
        ("sources:\n", "1:1: 'sources' is missing"),
        ("a: b: c", "1:5: this is not YAML"),
        ("a: 'b", "1:6: this is not YAML"),
        ("a:\n\tb: 1\n", "2:1: found character '\\t'"),
        ("--- 1\n--- 2\n", "2:1: this is not YAML"),
        ("a: !!python/name:os.system\n", "1:4: could not determine a constructor"),
        ("a: !!set {x}\n", "1:4: the tag 'tag:yaml.org,2002:set' is not allowed"),
        ("? [a]\n: 1\n", "1:3: a key is one word"),
        ("a: *b\n", "1:4: '*' is a sign of YAML's own; put the text in quotes: '*b'"),
        ("a: *.npy\n", "1:5: '*' is a sign of YAML's own; put the text in quotes: '*.npy'"),
        ("a: [ab]*.npy\n", "1:9: '[' is a sign of YAML's own"),
        ("a: >f4\n", "1:5: '>' is a sign of YAML's own; put the text in quotes: '>f4'"),
        ('a: "\\ud800"\n', "1:4: the text holds a NUL or half a character"),
        ('a: "\\0"\n', "1:4: the text holds a NUL or half a character"),
        ("a: &a [*a]\n", "1:4: an alias holds itself"),
        ("a: 1\n<<: 5\n", "2:5: '<<' merges mappings only"),
        (b"a\x00b", "1:2: the character U+0000 is not allowed"),
        (b"a: 1\nb: \xe9\n", "2:4: the byte 0xe9 is not UTF-8"),
        (b"\xff\xfea\x00", "1:1: the byte 0xff is not UTF-8"),
        ("[" * 3000, "1:1: the lists and mappings are nested too deep"),
        ("a: " + "[" * 60 + "]" * 60, "1:54: this is nested deeper than 50 levels"),
    ],
)
def test_what_is_no_config_at_all_is_one_mistake(text: str | bytes, problem: str) -> None:
    found = only_mistake(text)

    assert found.startswith(f"c.yaml:{problem}")


@pytest.mark.parametrize("level", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_unfold_without_end_are_refused_soon(level: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    for i in range(1, 20):
        lines.append(f"a{i}: &a{i} " + level.format(",".join([f"*a{i - 1}"] * 9)))

    found = only_mistake("\n".join(lines) + "\n")

    assert "aliases unfold to more than" in found


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    config = loaded("""\
sources:
  a: &a
    drop: drop/a
    output: data/a.h5
    datasets: &d {x: {dtype: f4}}
  b:
    <<: *a
    drop: drop/b
  c: {drop: drop/c, output: data/c.h5, datasets: *d}
""")

    assert config.sources["b"].drop == Path("drop/b")
    assert config.sources["b"].output == Path("data/a.h5")
    assert config.sources["c"].datasets["/x"].dtype == "f4"


def test_a_mistake_in_what_is_merged_is_reported_once_where_it_is_written() -> None:
    found = only_mistake("""\
sources:
  a: &a
    drop: drop/a
    output: data/a.h5
    machh: x
  b:
    <<: *a
    drop: drop/b
""")

    assert found.startswith("c.yaml:5:5: unknown key 'machh'")


def test_keys_and_dates_are_text_as_written() -> None:
    config = loaded("""\
sources:
  1:
    drop: 2024-01-31
    output: o.h5
  on: {drop: d, output: o.h5, attrs: {/a: {time: 1:30}}}
""")

    assert list(config.sources) == ["1", "on"]
    assert config.sources["1"].drop == Path("2024-01-31")
    assert config.sources["on"].attrs == {"/a": {"time": "1:30"}}


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert loaded(b"\xef\xbb\xbf" + SOURCE.encode()).sources["frames"].name == "frames"


def test_a_missing_file_is_said_with_the_way_to_write_one() -> None:
    with pytest.raises(ConfigError, match="there is no such file; write one with: ingestd init"):
        load(Path("no.yaml"))


def test_a_directory_in_place_of_a_config_is_said() -> None:
    with pytest.raises(ConfigError, match=r"^\.: cannot be read \(Is a directory\)"):
        load(Path())


def test_what_is_too_large_for_a_config_is_not_read() -> None:
    with pytest.raises(ConfigError, match="is larger than 1 MiB"):
        load(Path("/dev/zero"))


def test_odd_names_of_the_config_keep_one_line_each() -> None:
    path = Path("a\nb\udcff.yaml")
    path.write_text("x: 1\n")

    with pytest.raises(ConfigError) as caught:
        load(path)

    assert [p.split(":")[0] for p in caught.value.problems] == ["a\\nb\\xff.yaml"] * 2


def test_further_checks_are_reported_in_the_same_form() -> None:
    path = Path("c.yaml")
    path.write_text(SOURCE + "    options:\n      delimiter: ''\n")

    def more(config: Config) -> list[Problem]:
        return [Problem(config.sources["frames"].at("options", "delimiter"), "write one character")]

    with pytest.raises(ConfigError) as caught:
        load(path, more)

    assert caught.value.problems == ["c.yaml:6:18: write one character"]


WORDS = ["sources:", "drop: d", "output: o", "datasets:", "dtype: ", "commit: ", "a:", "<<: "]
FRAGMENTS = st.sampled_from([*WORDS, "&a ", "*a", "\n", "  ", "\t", *"{}[]'\"O!?-é|#,:"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=60), st.lists(FRAGMENTS, max_size=25).map("".join)))
def test_no_text_does_more_than_be_refused(text: str | bytes) -> None:
    try:
        config = loaded(text)
    except ConfigError as error:
        assert all(problem.startswith("c.yaml:") for problem in error.problems)
    else:
        assert config.sources
