"""A picture of clusters: a row each, the surest images first."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ccscale import atomic
from ccscale.data.crops import whole_image
from ccscale.data.reader import SampleReader
from ccscale.evaluate.assign import Assignments

TILE, GAP, MARGIN, TEXT = 56, 4, 16, 150
INK, PAPER, FAINT = (32, 33, 36), (255, 255, 255), (128, 130, 135)


def draw_gallery(
    path: Path,
    reader: SampleReader,
    found: Assignments,
    clusters: int,
    classes: tuple[str, ...],
    columns: int = 16,
) -> None:
    """Draw the surest images of every cluster into a PNG.

    Parameters
    ----------
    path
        Where the picture goes.
    reader
        Of the splits that were assigned, so that row i of `found` is sample i.
    found
        The assignments.
    clusters
        K, rows of the picture.
    classes
        Names of the labels, which are told beside the rows, if there are labels.
    columns
        Images in a row, at most.
    """
    title = 34
    width = 2 * MARGIN + TEXT + columns * (TILE + GAP)
    picture = Image.new("RGB", (width, 2 * MARGIN + title + clusters * (TILE + GAP)), PAPER)
    draw = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(15), ImageFont.load_default(12)
    heading = f"{len(found.keys):,} images in {clusters} clusters, each cluster's surest images first"
    draw.text((MARGIN, MARGIN), heading, INK, large)
    for cluster in range(clusters):
        top = MARGIN + title + cluster * (TILE + GAP)
        members = np.flatnonzero(found.clusters == cluster)
        surest = members[np.argsort(-found.confidence[members], kind="stable")[:columns]]
        draw.text((MARGIN, top + 8), f"cluster {cluster}", INK, large)
        draw.text((MARGIN, top + 30), _describe(found.labels[members], classes), FAINT, small)
        for column, sample in enumerate(surest):
            tile = Image.fromarray(whole_image(reader[int(sample)].data, TILE))
            picture.paste(tile, (MARGIN + TEXT + column * (TILE + GAP), top))
    data = io.BytesIO()
    picture.save(data, format="PNG", optimize=True)
    atomic.write_bytes(path, data.getvalue())


def _describe(labels: np.ndarray, classes: tuple[str, ...]) -> str:
    """Return a cluster's size and, where labels are known, its commonest class."""
    text = f"{len(labels):,} images"
    known = labels[labels >= 0]
    if len(known) and classes:
        counts = np.bincount(known)
        share = counts.max() / len(known)
        text += f", {share:.0%} '{classes[counts.argmax()]}'"
    return text
