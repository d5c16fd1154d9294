"""Finds dense and reproducible groups among images that lie where there were none before. Pure functions.

Each image is first replaced by the mean of its nearest neighbours (including itself); HDBSCAN (Campello et al.,
2013) then finds regions denser than their surroundings, at any scale. Known images are included as surroundings:
HDBSCAN cannot tell a single group from its own outskirts, and what cannot be told from known images is not a
group. A group that k-means with two centres divides into parts with a valley between them (`separation.py`) becomes
two groups.

The stability of a group is the mean, over `DRAWS` random subsets of all images, of the largest Jaccard index with
a group found there (Hennig 2007, with .75 for a stable group).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.array_types import Float32, Int64
from ccscale.clusters.separation import halves, valley_p_value
from ccscale.features.vectors import unit_rows

NEAREST = 10  # images whose mean stands for one
CORE = 5  # HDBSCAN's min_samples
LEAST = 20  # images of a group
DRAWS, PART = 8, 0.8
VALLEY = 1e-3  # the chance that there is none, up to which two parts are two
MOST, KNOWN = 2_048, 1_024  # images, and known ones, that are examined


@dataclass(frozen=True)
class Group:
    """A dense group of images.

    Attributes
    ----------
    rows
        Which of the images, rising.
    stability
        From 0 to 1.
    """

    rows: Int64
    stability: float


def find_groups(rows: Float32, known: Float32, seed: int) -> list[Group]:
    """Find groups among images (n, q) of length 1, with known ones (m, q) beside them; the largest first."""
    if len(rows) < LEAST:
        return []
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(rows))[:MOST])
    rows, beside = rows[chosen], known[np.sort(random.permutation(len(known))[:KNOWN])]
    whole = _labels(rows, beside)
    names = np.unique(whole[whole >= 0])
    best = np.zeros((DRAWS, len(names)))
    for draw in best if len(names) else ():
        part = np.sort(random.permutation(len(rows))[: int(PART * len(rows))])
        others = beside[np.sort(random.permutation(len(beside))[: int(PART * len(beside))])]
        again = _labels(rows[part], others)
        draw[:] = [_overlap(whole[part] == name, again) for name in names]
    found = [
        Group(chosen[whole == name], float(stability))
        for name, stability in zip(names, best.mean(axis=0), strict=True)
        if (whole == name).sum() >= LEAST
    ]
    return sorted(found, key=lambda one: (-len(one.rows), int(one.rows[0])))


def _labels(rows: Float32, known: Float32) -> Int64:
    """Return the group of each image, (n,), or -1."""
    from sklearn.cluster import HDBSCAN

    every = np.concatenate([rows, known])
    near = np.argpartition(-(every @ every.T), min(NEAREST, len(every) - 1), axis=1)[:, :NEAREST]
    moved = unit_rows(every[near].mean(axis=1))
    distances = np.sqrt(np.maximum(2 - 2 * (moved @ moved.T).astype(np.float64), 0))
    np.fill_diagonal(distances, 0)
    tree = HDBSCAN(min_cluster_size=LEAST, min_samples=CORE, metric="precomputed", copy=False)
    whole = tree.fit_predict(distances)[: len(rows)]
    found = np.full(len(rows), -1)
    parts = [
        part
        for name in range(whole.max(initial=-1) + 1)
        for part in divided(rows, np.flatnonzero(whole == name))
    ]
    for number, part in enumerate(parts):
        found[part] = number
    return found


def divided(rows: Float32, own: Int64) -> list[Int64]:
    """Return the parts of some rows (n, q), as numbers, that are separated by valleys."""
    first, second = halves(rows[own])
    if min(len(first), len(second)) < LEAST or valley_p_value(rows[own[first]], rows[own[second]]) > VALLEY:
        return [own]
    return [part for side in (first, second) for part in divided(rows, np.sort(own[side]))]


def _overlap(group: NDArray[np.bool_], labels: Int64) -> float:
    """Return the largest Jaccard index of a group, as a mask, with those of labels (-1: none)."""
    inside = labels[group & (labels >= 0)]
    if not len(inside):
        return 0.0
    names, both = np.unique(inside, return_counts=True)
    sizes = np.array([(labels == name).sum() for name in names])
    return float((both / (group.sum() + sizes - both)).max())
