"""Selects the groups of new images that may be new clusters. Pure functions.

A group is a candidate if both of these hold, and is proposed if it is also stable: found again in random subsets
of the images (`groups.py`).

- It is separate from each of the nearest clusters: a separation of at least `APART` on an axis computed from
  held-out images, with a p-value of at most `CHANCE`. If a known class is merely more frequent than usual, its new
  images are no more separate from the old ones than two samples of one distribution.
- It is at least half as tight as the run's own clusters in the median (the mean cosine of two images): images that
  lie far from all known ones, and from each other, are not a cluster.
"""

from dataclasses import dataclass

import numpy as np

from ccscale.array_types import Float32, Int64
from ccscale.clusters.groups import find_groups
from ccscale.clusters.initial_state import tightness_of
from ccscale.clusters.separation import measure_separation
from ccscale.clusters.state import NEAR
from ccscale.features.vectors import unit_rows

STABLE, APART, CHANCE = 0.6, 0.9, 1e-3
TIGHT = 0.5  # of the median tightness of clusters


@dataclass(frozen=True)
class Candidate:
    """A group that may become a cluster.

    Attributes
    ----------
    centre
        (q,) float32, of length 1.
    rows
        (m, q): the images from which it was found.
    nearest
        The id of the nearest cluster.
    is_stable
        Whether it may become a cluster. If not, it is still a group, and its images are not assigned elsewhere.
    facts
        ``seen``, the images that it was found by; ``stability``, ``separation``, ``chance`` of the latter,
        ``tightness``.
    """

    centre: Float32
    rows: Float32
    nearest: int
    is_stable: bool
    facts: dict[str, float]


def find_candidates(
    rows: Float32, known: Float32, ids: Int64, tightness: Float32, seed: int
) -> list[Candidate]:
    """Find candidates in images (n, q) that are among new ones.

    They are compared with known images, (m, q), of clusters (m,), and the tightness of all clusters.
    """
    found = []
    for group in find_groups(rows, known, seed):
        own = rows[group.rows]
        near, separation, chance = _apart(own, known, ids, seed)
        facts = {
            "seen": len(own),
            "stability": group.stability,
            "separation": separation,
            "chance": chance,
            "tightness": tightness_of(own),
        }
        if separation >= APART and chance <= CHANCE and facts["tightness"] >= TIGHT * np.median(tightness):
            found.append(
                Candidate(unit_rows(own.mean(axis=0)[None])[0], own, near, group.stability >= STABLE, facts)
            )
    return found


def _apart(own: Float32, known: Float32, ids: Int64, seed: int) -> tuple[int, float, float]:
    """Return the nearest cluster, the least separation from the `NEAR` ones, and the largest chance."""
    clusters = np.unique(ids)
    if not len(clusters):
        return -1, 1.0, 0.0
    centre = own.mean(axis=0)
    cosines = [float(unit_rows(known[ids == one].mean(axis=0)[None])[0] @ centre) for one in clusters]
    near = clusters[np.argsort(-np.array(cosines), kind="stable")[:NEAR]]
    random = np.random.default_rng(seed)
    order = random.permutation(len(own))
    tests = [measure_separation(own[order], random.permutation(known[ids == one])) for one in near]
    enough = [test for test in tests if not np.isnan(test.separation)]
    if not enough:
        return int(near[0]), 1.0, 0.0
    return int(near[0]), min(one.separation for one in enough), max(one.chance for one in enough)
