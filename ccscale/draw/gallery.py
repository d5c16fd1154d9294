"""A picture of clusters: a row each, the surest images first."""

from pathlib import Path

import numpy as np

from ccscale.data.images.crops import whole_image
from ccscale.data.reader import SampleReader
from ccscale.draw.contact_sheet import TILE, Row, draw_sheet
from ccscale.evaluate.table import Assignments
from ccscale.wording import counted


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

    def row(cluster: int) -> Row:
        members = np.flatnonzero(found.clusters == cluster)
        surest = members[np.argsort(-found.confidence[members], kind="stable")[:columns]]
        tiles = (whole_image(reader[int(sample)].data, TILE) for sample in surest)
        return Row(f"cluster {cluster}", _describe(found.labels[members], classes), tiles)

    where = f"{counted(len(found.keys), 'image')} in {counted(clusters, 'cluster')}"
    heading = f"{where}, each cluster's surest images first"
    draw_sheet(path, heading, map(row, range(clusters)), clusters, columns)


def _describe(labels: np.ndarray, classes: tuple[str, ...]) -> str:
    """Return a cluster's size and, where labels are known, its commonest class."""
    text = counted(len(labels), "image")
    known = labels[labels >= 0]
    if len(known) and classes:
        counts = np.bincount(known)
        label, share = int(counts.argmax()), counts.max() / len(known)
        text += f", {share:.0%} '{classes[label] if label < len(classes) else label}'"
    return text
