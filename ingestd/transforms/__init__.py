"""Ready-made transforms: a config names them by their bare name, ``{crop: {y: [0, 512]}}``.

A transform is ``f(arrays, captures, **parameters) -> arrays``, arrays by member name; none of
these changes an array that it was given. ``members`` chooses those that a step is for (default:
all); the others pass as they are.
"""

from ingestd.transforms.axes import as_row, bin, crop, flip, patches, transpose
from ingestd.transforms.columns import keep, select
from ingestd.transforms.common import slabwise
from ingestd.transforms.values import cast, scale

__all__ = [
    "as_row",
    "bin",
    "cast",
    "crop",
    "flip",
    "keep",
    "patches",
    "scale",
    "select",
    "slabwise",
    "transpose",
]
