"""A picture of clusters: one row each, the most confident images first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccscale.data.images.channels import open_picture
from ccscale.data.images.decode import upright
from ccscale.data.images.whole import whole_image
from ccscale.data.reader import SampleReader
from ccscale.draw.contact_sheet import TILE, Row, draw_sheet
from ccscale.wording import class_name, counted


def draw_gallery(
    path: Path,
    reader: SampleReader,
    clusters: NDArray[np.int64],
    confidence: NDArray[np.floating],
    labels: NDArray[np.int64],
    k: int,
    classes: tuple[str, ...],
    columns: int = 16,
) -> None:
    """Draw the most confident images of every cluster into a PNG.

    Parameters
    ----------
    path
        Where the picture goes.
    reader
        Of the N images that were assigned, in their order.
    clusters, confidence
        (N,): the cluster of each, -1 for none, and how sure that is.
    labels
        (N,): -1 where not known.
    k
        Number of clusters, rows of the picture.
    classes
        Names of the labels, which are told beside the rows, if there are labels.
    columns
        Images in a row, at most.
    """

    def row(cluster: int) -> Row:
        members = np.flatnonzero(clusters == cluster)
        surest = members[np.argsort(-confidence[members], kind="stable")[:columns]]
        tiles = (_whole(reader[int(sample)].data, reader.shown) for sample in surest)
        return Row(f"cluster {cluster}", _describe(labels[members], classes), tiles)

    where = f"{counted(len(clusters), 'image')} in {counted(k, 'cluster')}"
    heading = f"{where}, each cluster's surest images first"
    draw_sheet(path, heading, map(row, range(k)), k, columns)


def _whole(data: bytes, shown: Sequence[int] | None) -> NDArray[np.uint8]:
    """Return the whole of an image as a tile."""
    if shown is None:
        return whole_image(data, TILE)
    return np.array(upright(open_picture(data, shown)).resize((TILE, TILE), Image.Resampling.BILINEAR))


def _describe(labels: NDArray[np.int64], classes: tuple[str, ...]) -> str:
    """Return a cluster's size and, where labels are known, its most common class."""
    text = counted(len(labels), "image")
    known = labels[labels >= 0]
    if len(known) and classes:
        counts = np.bincount(known)
        label, share = int(counts.argmax()), counts.max() / len(known)
        text += f", {share:.0%} '{class_name(classes, label)}'"
    return text
