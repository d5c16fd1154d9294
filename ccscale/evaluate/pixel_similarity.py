"""Confirms near-duplicates by comparing pixels, since features alone cannot tell them.

An image is reduced to `SIDE` x `SIDE` grey pixels of mean 0 and length 1, as a whole and as nine windows of nine
tenths of its sides; the product of two of them is their correlation. Two images are near-duplicates if

    the whole of both correlates by `WHOLE` or more, or
    the whole of one correlates with a window of the other by `WINDOW` or more, and their features by `COSINE`

(for re-encoded, resized or grey copies; for cropped ones). `tools/bench/near_duplicates.py` measures what this
finds. An image of a single colour has no near-duplicates.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccscale.array_types import Int64
from ccscale.data.images.channels import open_picture
from ccscale.data.images.decode import decode
from ccscale.data.reader import SampleReader
from ccscale.errors import BadImage
from ccscale.features.near_pairs import NearPairs, near_pairs
from ccscale.features.store import Features
from ccscale.progress import Meter

SIDE = 16
WHOLE, WINDOW, COSINE = 0.95, 0.9, 0.7
CANDIDATES = 0.3  # least cosine of neighbours that are examined
AT_ONCE = 2**16  # pairs

Thumbs = NDArray[np.float16]


def pairs_by_pixels(features: Features, reader: SampleReader) -> NearPairs:
    """Return the pairs of neighbours that are one image; `cosines` are those of their features."""
    pairs = near_pairs(features, CANDIDATES)
    rows = np.unique(np.concatenate([pairs.first, pairs.second]))
    whole = np.zeros((len(rows), SIDE * SIDE), np.float16)
    with Meter("looking at images", len(rows), "images", show=True) as meter:
        for place, row in enumerate(rows.tolist()):
            whole[place] = _pictures(reader[row].data, reader.shown, windows=False)[0]
            meter.advance()
    first, second = np.searchsorted(rows, pairs.first), np.searchsorted(rows, pairs.second)
    alike = _correlations(whole, first, whole, second) >= WHOLE
    maybe = np.flatnonzero(~alike & (pairs.cosines >= COSINE))
    alike[maybe] = _windows_alike(reader, rows, whole, first[maybe], second[maybe])
    near = np.bincount(pairs.first[alike], minlength=features.rows)
    near += np.bincount(pairs.second[alike], minlength=features.rows)
    k = int((features.neighbour_section or {"k": 0})["k"])
    return NearPairs(
        pairs.first[alike], pairs.second[alike], pairs.cosines[alike], np.flatnonzero(near >= max(k, 1))
    )


def _windows_alike(
    reader: SampleReader, rows: Int64, whole: Thumbs, first: Int64, second: Int64
) -> NDArray[np.bool_]:
    """Tell of pairs whether a window of either is like the whole of the other; each image is opened once."""
    found = np.zeros(len(first), bool)
    own, other = np.concatenate([first, second]), np.concatenate([second, first])
    pair = np.tile(np.arange(len(first)), 2)
    order = np.argsort(own, kind="stable")
    starts = np.flatnonzero(np.diff(own[order], prepend=-1))
    with Meter("looking for crops", len(starts), "images", show=True) as meter:
        for some in np.split(order, starts[1:]) if len(order) else ():
            windows = _pictures(reader[int(rows[own[some[0]]])].data, reader.shown, windows=True)[1:]
            like = (windows.astype(np.float32) @ whole[other[some]].astype(np.float32).T).max(
                axis=0
            ) >= WINDOW
            found[pair[some[like]]] = True
            meter.advance()
    return found


def _correlations(left: Thumbs, first: Int64, right: Thumbs, second: Int64) -> NDArray[np.float32]:
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        product = left[first[some]].astype(np.float32) * right[second[some]].astype(np.float32)
        found[some] = product.sum(axis=1)
    return found


def _pictures(data: bytes, shown: Sequence[int] | None, windows: bool) -> Thumbs:
    """Return an image as small pictures, the whole and then its windows, (p, SIDE^2); zeros for no image."""
    boxes = [(0.0, 0.0, 1.0, 1.0)]
    if windows:
        offsets = (0.0, 0.05, 0.1)
        boxes += [(left, top, left + 0.9, top + 0.9) for left in offsets for top in offsets]
    try:
        encoded = open_picture(data, shown)
        image = decode(encoded, [(0, 0, encoded.width, encoded.height)], 4 * SIDE)[0].convert("L")
    except BadImage:
        return np.zeros((len(boxes), SIDE * SIDE), np.float16)
    wide, high = image.size
    small = [
        image.resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR, (left * wide, top * high, right * wide, bottom * high)
        )
        for left, top, right, bottom in boxes
    ]
    pixels = np.stack([np.asarray(one, np.float32).ravel() for one in small])
    pixels -= pixels.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(pixels, axis=1, keepdims=True)
    return np.where(lengths > 1e-3, pixels / np.maximum(lengths, 1e-3), 0).astype(np.float16)
