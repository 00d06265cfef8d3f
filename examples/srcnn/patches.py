"""The transform: a picture becomes pairs of patches, ``input`` (33, 33) and ``label`` (21, 21).

Row i of one belongs to row i of the other: the label is the sharp centre of what the input shows
blurred.
"""

import numpy as np
from PIL import Image

SCALE = 3
INPUT, LABEL, STRIDE = 33, 21, 14
EDGE = (INPUT - LABEL) // 2


def pairs(arrays, captures, stride=STRIDE):
    """A picture of bytes, (y, x) or (y, x, 3), as pairs in float32 from 0 to 1."""
    sharp = grey(arrays["data"])
    return {
        "/input": cut(blurred(sharp), 0, INPUT, stride),
        "/label": cut(sharp, EDGE, LABEL, stride),
    }


def grey(picture):
    """The picture in float32 from 0 to 1, its sides cut to multiples of ``SCALE``."""
    if picture.ndim == 3:
        picture = picture @ [0.299, 0.587, 0.114]
    height, width = (side // SCALE * SCALE for side in picture.shape)
    return picture[:height, :width].astype("float32") / 255


def blurred(sharp):
    """What is left of it when it was ``SCALE`` times smaller: down and up again, both bicubic."""
    picture = Image.fromarray(sharp)
    small = picture.resize([side // SCALE for side in picture.size], Image.Resampling.BICUBIC)
    return np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC))


def cut(picture, edge, size, stride):
    """Patches of ``size``, each ``edge`` inside of an input patch, one every ``stride`` points."""
    inner = picture[edge : picture.shape[0] - edge, edge : picture.shape[1] - edge]
    windows = np.lib.stride_tricks.sliding_window_view(inner, (size, size))
    return windows[::stride, ::stride].reshape(-1, size, size)
