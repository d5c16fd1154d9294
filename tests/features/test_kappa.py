"""Agreement beyond chance: against scikit-learn's, and at its ends."""

import numpy as np
from sklearn.metrics import cohen_kappa_score

from ccscale.features.kappa import kappa, neighbour_kappa


def test_it_is_cohens() -> None:
    draw = np.random.default_rng(0)
    a = draw.integers(5, size=300)
    b = np.where(draw.random(300) < 0.6, a, draw.integers(5, size=300))
    found = kappa(a, b)
    assert np.isclose(found.kappa, cohen_kappa_score(a, b))
    assert np.isclose(found.agreement, (a == b).mean())


def test_one_cluster_agrees_by_chance() -> None:
    same = np.zeros(9, np.int64)
    assert kappa(same, same) == (1.0, 1.0, 0.0)
    assert kappa(same[:0], same[:0]).kappa == 0


def test_neighbours_without_a_cluster_are_no_pairs() -> None:
    own = np.array([0, 1, -1, 1])
    theirs = np.array([[0, -1], [1, 0], [0, 1], [-1, -1]])
    assert neighbour_kappa(own, theirs) == kappa(np.array([0, 1, 1]), np.array([0, 1, 0])).kappa
