"""All images of each cluster, the most confident first: which ones the page lists, and which have a picture.

A block ``list-N`` a cluster, JSON, deflated, in base64; read when someone looks. Pictures beside those of the
cluster's own sheet are in sheets ``more-N-I`` of `PAGE` tiles. Of what is over the budgets the number is told.
"""

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccscale.array_types import Int64
from ccscale.evaluate.table import Assignments
from ccscale.report.clusters import ChosenImages, by_cluster
from ccscale.report.encoding import to_json

PICTURES = 8_000  # of all clusters together, those of `clusters.choose_images` among them
LISTED = 200_000  # images whose keys the page holds
PAGE = 64


@dataclass(frozen=True)
class Members:
    """The images of K clusters.

    Attributes
    ----------
    chosen
        Those that stand for the clusters.
    listed
        Rows of the table, the most confident first.
    more
        Those of them that have a picture, too.
    """

    chosen: Sequence[ChosenImages]
    listed: Sequence[Int64]
    more: Sequence[Int64]

    def describe(self) -> dict[str, Any]:
        """Return what the page says of them."""
        return {
            "page": PAGE,
            "listed": [len(rows) for rows in self.listed],
            "pictures": [
                len(first.rows) + len(rest) for first, rest in zip(self.chosen, self.more, strict=True)
            ],
        }

    def sheets(self) -> Iterable[tuple[str, Int64]]:
        """Yield the name of each sheet beside the clusters' own, and its rows."""
        for cluster, rows in enumerate(self.more):
            for number, start in enumerate(range(0, len(rows), PAGE)):
                yield f"more-{cluster}-{number}", rows[start : start + PAGE]

    def blocks(self, table: Assignments) -> Iterable[tuple[str, str]]:
        """Yield the lists."""
        labelled = bool((table.labels >= 0).any())
        for cluster, rows in enumerate(self.listed):
            if not len(rows):
                continue
            pictures = np.concatenate([self.chosen[cluster].rows, self.more[cluster]])
            place = dict(zip(pictures.tolist(), range(len(pictures)), strict=True))
            found: dict[str, Any] = {
                "keys": table.keys.take(rows).to_pylist(),
                "confidence": np.rint(table.confidence[rows] * 1000).astype(int).tolist(),
                "pictures": [place.get(row, -1) for row in rows.tolist()],
            }
            if labelled:
                found["labels"] = table.labels[rows].tolist()
            if table.origins is not None:
                found["origins"] = table.origins.take(rows).to_pylist()
            yield f"list-{cluster}", _deflated(to_json(found))


def list_members(table: Assignments, chosen: Sequence[ChosenImages], pictures: int = PICTURES) -> Members:
    """List the images of clusters, as many of each as the budgets allow where they are shared out fairly.

    Parameters
    ----------
    table
        The images.
    chosen
        Those that stand for each of the K clusters.
    pictures
        How many pictures there may be in all; those chosen are not fewer for it.
    """
    clusters = table.clusters
    sizes = np.bincount(clusters[clusters >= 0], minlength=len(chosen))
    members = by_cluster(clusters, -table.confidence, sizes)
    listed = [rows[:count] for rows, count in zip(members, fair(sizes, LISTED), strict=True)]
    others = [rows[~np.isin(rows, first.rows)] for rows, first in zip(listed, chosen, strict=True)]
    left = max(pictures - sum(len(first.rows) for first in chosen), 0)
    counts = fair(np.array([len(rows) for rows in others], dtype=np.int64), left)
    return Members(chosen, listed, [rows[:count] for rows, count in zip(others, counts, strict=True)])


def fair(sizes: Int64, budget: int) -> list[int]:
    """Share out a budget: all have what they ask for, up to a limit that is the same for all.

    Parameters
    ----------
    sizes
        (K,): what each asks for.
    budget
        What there is.
    """
    low, high = 0, int(sizes.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(sizes, middle).sum()) <= budget:
            low = middle
        else:
            high = middle - 1
    return [int(size) for size in np.minimum(sizes, low)]


def _deflated(text: str) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(packer.compress(text.encode()) + packer.flush()).decode()
