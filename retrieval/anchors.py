"""A statement's vector, drawn towards the labelled statements most like it. Pure.

The encoder puts a statement that it learnt from where the requests lie on which it bears; one
that it never met lands less exactly. So its vector moves towards the nearest of some thousand
anchors: the means of all labelled statements, in groups of near ones (``training.anchors``).
Which are near is told in exact integers, as scores are, so that company changes no bit.
"""

import numpy as np
from numpy.typing import NDArray

from .scoring import ONE, Int8, by_segment

NEAREST = 5
FROM = 400_000
"""Cosine, in millionths, beyond which an anchor draws, and from which on more."""
SHARE = 0.5
"""What the mean of the nearest counts, beside 1 for the vector itself."""
AT_ONCE = 64

Float32 = NDArray[np.float32]


def drawn(vectors: Float32, rounded: Int8, anchors: Int8, scale: int) -> Float32:
    """Move vectors towards the anchors near them.

    Args:
        vectors: (n, d), normalised.
        rounded: (n, d), the same as int8.
        anchors: (a, d), as int8.
        scale: by which normalised vectors were multiplied to become int8.

    Returns:
        (n, d), normalised; a vector with no anchor near it is as it was.
    """
    parts = [
        _drawn(vectors[start : start + AT_ONCE], rounded[start : start + AT_ONCE], anchors, scale)
        for start in range(0, len(vectors), AT_ONCE)
    ]
    return np.concatenate(parts) if parts else vectors


def _drawn(vectors: Float32, rounded: Int8, anchors: Int8, scale: int) -> Float32:
    cosines = by_segment(anchors, rounded, [1000] * len(rounded), scale=scale)
    rows = np.argpartition(-cosines, NEAREST, axis=0)[:NEAREST]
    pulls = np.maximum(np.take_along_axis(cosines, rows, axis=0) - FROM, 0) / ONE
    sums = np.zeros(vectors.shape)
    for row, each in zip(rows, pulls, strict=True):
        sums += each[:, None] * anchors[row] / scale
    pull = pulls.sum(axis=0)[:, None]
    moved = vectors + SHARE * sums / np.maximum(pull, 1 / ONE)
    moved /= np.sqrt((moved * moved).sum(axis=1, keepdims=True))
    return np.where(pull > 0, moved, vectors).astype(np.float32)
