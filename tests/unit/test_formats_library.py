"""What stands between a drop file and a library: errors, warnings and the disk's own words."""

from __future__ import annotations

import io
import logging
import threading
import warnings

import pytest

from ingestd.errors import BadFile
from ingestd.formats.library import LibraryFile, LoggedErrors, check_ratio, library_errors


class Failing(io.BytesIO):
    error = OSError(5, "Input/output error")

    def readinto(self, target: object) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [ValueError("a\nb"), OSError("truncated"), MemoryError(), RecursionError(), KeyError("x")],
)
def test_whatever_a_library_raises_is_a_bad_file(error: Exception) -> None:
    file = LibraryFile(io.BytesIO(b"x"))

    with pytest.raises(BadFile) as caught, library_errors(file, "a thing", "Save it."):
        raise error

    assert caught.value.expected == "a thing"
    assert type(error).__name__ in caught.value.found
    assert "\n" not in caught.value.found


def test_a_library_that_is_not_there_is_said_with_the_line_that_installs_it() -> None:
    file = LibraryFile(io.BytesIO(b"x"))

    with pytest.raises(BadFile, match="pip install 'ingestd"), library_errors(file, "", ""):
        raise ModuleNotFoundError("No module named 'tifffile'", name="tifffile")


def test_what_the_disk_says_goes_before_what_the_library_makes_of_it() -> None:
    file = LibraryFile(Failing(b"x"))

    with pytest.raises(OSError, match="Input/output") as caught, library_errors(file, "", ""):
        try:
            file.read()
        except OSError:
            raise ValueError("no such thing") from None
    assert caught.value is Failing.error

    with pytest.raises(OSError, match="Input/output"), library_errors(file, "", ""):
        pass


def test_a_read_takes_no_more_memory_than_the_file_has_bytes() -> None:
    file = LibraryFile(io.BytesIO(b"abcdef"))

    assert file.read_at(2, 2**60) == b"cdef"
    assert file.read_at(100, 10) == b""
    assert file.seek(-2, 2) == 4 and file.read() == b"ef"


def test_warnings_are_silent_inside_and_as_before_after_threads_that_overlap() -> None:
    file = LibraryFile(io.BytesIO())
    before = list(warnings.filters)
    inside, outside = threading.Event(), threading.Event()

    def other() -> None:
        with library_errors(file, "", ""):
            inside.set()
            outside.wait(30)
            warnings.warn("late", stacklevel=1)

    thread = threading.Thread(target=other)
    with library_errors(file, "", ""):
        thread.start()
        assert inside.wait(30)
        warnings.warn("early", stacklevel=1)
    outside.set()
    thread.join(30)

    assert warnings.filters == before
    with pytest.raises(UserWarning):
        warnings.warn("after", stacklevel=1)


def test_what_a_library_only_logs_is_raised_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logged = LoggedErrors()
    logger = logging.getLogger("some.library")

    with pytest.raises(ValueError, match="page 3 is damaged"), logged.raised("some.library"):
        logger.warning("a tag is odd")
        logger.error("page 3 is damaged")
    with logged.raised("some.library"):
        logger.warning("a tag is odd")
    assert not caplog.records

    logger.warning("somebody else's")
    assert [record.message for record in caplog.records] == ["somebody else's"]


def test_a_ratio_counts_above_64_mib_only() -> None:
    check_ratio(64 << 20, 1, 1000, "tiff")
    check_ratio(100 << 20, 1 << 20, 100, "tiff")

    with pytest.raises(BadFile, match="'format: tiff'"):
        check_ratio((100 << 20) + 1, 1 << 20, 100, "tiff")
