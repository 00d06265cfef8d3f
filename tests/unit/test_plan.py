"""What a file's members become, in datasets that are made for such files."""

from __future__ import annotations

import numpy as np
import pytest

from ingestd.config import Dataset
from ingestd.errors import BadFile
from ingestd.formats import ArrayInfo
from ingestd.model import RowType
from ingestd.pipeline.plan import dataset_spec, file_rows, plan_rows


@pytest.mark.parametrize(
    ("shape", "stack", "rows"),
    [((7, 4), False, 7), ((7, 4), True, 1), ((), True, 1), ((None, 4), False, None)],
)
def test_a_file_has_as_many_rows_as_are_known_before_it_is_read(shape, stack, rows) -> None:
    info = ArrayInfo(np.dtype("u2"), shape)

    assert file_rows(Dataset(stack=stack), info) == rows


def test_a_dataset_is_made_for_files_of_so_many_rows() -> None:
    rows = RowType(np.dtype("u2"), (4,))

    assert dataset_spec(Dataset(), rows, 7).file_rows == 7
    assert dataset_spec(Dataset(), rows).file_rows is None


ROWS = ArrayInfo(np.dtype("u2"), (7, 4))
TEXT = ArrayInfo(np.dtype("V1"), (), refused=BadFile("numbers", "it is text", "Leave it out."))


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/data", "entry/data/data"),
        ("/data", "/entry/data/data"),
        ("/entry/data/data", None),
        ("/any", "/entry/data/data/"),
    ],
)
def test_a_member_of_a_tree_is_named_with_or_without_its_first_slash(path, member) -> None:
    members = {"/entry/data/data": ROWS, "/entry/other": ROWS}

    assert plan_rows({path: Dataset(member=member)}, members)[path][0] == "/entry/data/data"


def test_the_only_array_needs_no_name_whatever_links_and_text_stand_beside_it() -> None:
    link = ArrayInfo(ROWS.dtype, ROWS.shape, link_to="/a/x")

    plan = plan_rows({"/data": Dataset()}, {"/title": TEXT, "/a/x": ROWS, "/link": link})

    assert plan["/data"][0] == "/a/x"


def test_a_member_that_has_no_rows_is_refused_in_its_formats_words() -> None:
    with pytest.raises(BadFile, match=r"'/title': it is text; expected numbers\. Leave it out"):
        plan_rows({"/data": Dataset(member="title")}, {"/title": TEXT, "/x": ROWS})


def test_of_listed_columns_those_that_the_file_lacks_are_named() -> None:
    members = {"time": ROWS, "pressure": ROWS, "data": ROWS}
    dataset = Dataset(member=["time", "Pressure"])

    with pytest.raises(BadFile, match=r"no column 'Pressure'; it has time, pressure; expected"):
        plan_rows({"/log": dataset}, members)
