"""The report's data of each cluster: its most confident and most doubtful images, classes, nearby clusters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.table import Assignments
from ccscale.evaluate.tally import Tally
from ccscale.features.vectors import unit_rows
from ccscale.report.encoding import rounded
from ccscale.report.inputs import Points

TILES = 24_000  # pictures of all clusters together
SUREST, DOUBTFUL = 16, 8
NEAR = 5
CLASSES = 20
COLOURS, MARKS = 10, 60  # hues; and each of them as it is and darker, in three shapes
CHUNK = 1024


@dataclass(frozen=True)
class ChosenImages:
    """Rows of the table whose pictures stand for a cluster: surest first, and most doubtful first."""

    surest: NDArray[np.int64]
    doubtful: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """All of them, the most confident before the doubtful."""
        return np.concatenate([self.surest, self.doubtful])


def choose_images(table: Assignments, k: int) -> list[ChosenImages]:
    """Choose up to 16 surest and 8 most doubtful images of each of `k` clusters; fewer where there are many.

    Doubt is a small lead over the second choice, or where that is not known, low confidence. No image is both.
    """
    sizes = np.bincount(table.clusters[table.clusters >= 0], minlength=k)
    each = min(SUREST + DOUBTFUL, max(TILES // max(int((sizes > 0).sum()), 1), 1))
    doubtful = each * DOUBTFUL // (SUREST + DOUBTFUL)
    lead = table.confidence if table.second_confidence is None else table.confidence - table.second_confidence
    sure = by_cluster(table.clusters, -table.confidence, sizes)
    unsure = by_cluster(table.clusters, lead, sizes)
    result = []
    for surest, least in zip(sure, unsure, strict=True):
        first = surest[: each - doubtful]
        others = least[: each + 1]
        result.append(ChosenImages(first, others[~np.isin(others, first)][:doubtful]))
    return result


def by_cluster(
    clusters: NDArray[np.int64], value: NDArray[np.float32], sizes: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return the rows of each cluster, the lowest value first."""
    order = np.lexsort((value, clusters))
    return np.split(order[int((clusters < 0).sum()) :], np.cumsum(sizes)[:-1])


def describe(table: Assignments, tally: Tally, points: Points | None) -> dict[str, Any]:
    """Return figures of the clusters of a table that was counted, a list each.

    Returns
    -------
    dict
        ``size``; ``confidence``, the mean, None for an empty one; ``labelled``, images with a label; ``classes``,
        the most common as (label, images); ``near``, (cluster, cosine of the mean features) if there are features;
        ``second``, (cluster, images whose second choice it is) where these are known; ``colour``, of `colours`.
    """
    k, cells = len(tally.sizes), tally.table.cells()
    result: dict[str, Any] = {
        "size": tally.sizes.tolist(),
        "confidence": [
            rounded(total / size) if size else None
            for total, size in zip(tally.confidence, tally.sizes, strict=True)
        ],
        "labelled": np.bincount(cells.clusters, cells.counts, k).astype(np.int64).tolist(),
        "classes": tally.table.largest(CLASSES),
    }
    if points is not None:
        result["near"] = nearest(points, table.clusters, k)
    if table.second is not None:
        pairs = (table.clusters >= 0) & (table.second >= 0)
        result["second"] = Contingency.of(table.clusters[pairs], table.second[pairs], k).largest(NEAR)
    neighbours = result.get("near") or result.get("second") or [[] for _ in range(k)]
    result["colour"] = colours(tally.sizes, [[other for other, _ in row] for row in neighbours])
    return result


def nearest(points: Points, clusters: NDArray[np.int64], k: int) -> list[list[tuple[int, float]]]:
    """Return for each cluster those whose mean features point the same way: (cluster, cosine), nearest first."""
    from scipy.sparse import csr_array

    own = clusters[points.rows]
    members = np.flatnonzero(own >= 0)
    ones = np.ones(len(members), dtype=np.float32)
    indicator = csr_array((ones, (own[members], members)), shape=(k, len(own)))
    centroids = unit_rows(indicator @ unit_rows(points.features))
    there = np.bincount(own[members], minlength=k) > 0
    result: list[list[tuple[int, float]]] = []
    for start in range(0, k, CHUNK):
        cosines = centroids[start : start + CHUNK] @ centroids.T
        cosines[:, ~there] = -np.inf
        for cluster, row in enumerate(cosines, start):
            row[cluster] = -np.inf
            order = np.argsort(-row, kind="stable")[: NEAR if there[cluster] else 0]
            result.append([(int(i), float(f"{row[i]:.3f}")) for i in order if np.isfinite(row[i])])
    return result


def colours(sizes: NDArray[np.int64], near: list[list[int]]) -> list[int]:
    """Give each cluster a number under `MARKS`, whose last digit is its hue; up to `MARKS` clusters, none twice.

    The largest come first, and each gets the hue that is rarest among those near it, then among all.
    """
    result = [-1] * len(sizes)
    used = np.zeros(COLOURS, dtype=np.int64)
    beside: list[set[int]] = [set(row) for row in near]
    for cluster, row in enumerate(near):
        for other in row:
            beside[other].add(cluster)
    for cluster in np.argsort(-sizes, kind="stable").tolist():
        taken = np.bincount(
            [result[other] % COLOURS for other in beside[cluster] if result[other] >= 0], minlength=COLOURS
        )
        hue = int(np.lexsort((used, taken, used // (MARKS // COLOURS)))[0])
        result[cluster] = (hue + COLOURS * int(used[hue])) % MARKS
        used[hue] += 1
    return result
