"""Agreement beyond chance: Cohen's kappa ("A coefficient of agreement for nominal scales", 1960), without labels.

Of n pairs with clusters a_i and b_i, of two views of an image, or of an image and one of its neighbours::

    agreement = share of pairs with a_i = b_i
    chance    = Σ_k share_a(k) share_b(k)         what pairs without any relation would agree on
    kappa     = (agreement − chance) / (1 − chance)      1 at best, 0 by chance

A collapsed clustering always agrees, but by chance: its kappa is 0.
"""

from typing import NamedTuple

import numpy as np

from ccscale.array_types import Int64


class Kappa(NamedTuple):
    """The agreement of pairs, by chance, and beyond it."""

    agreement: float
    chance: float
    kappa: float


def kappa(a: Int64, b: Int64) -> Kappa:
    """Return the agreement of pairs.

    Parameters
    ----------
    a, b
        (n,) clusters, counted from 0; all figures are 0 where there is no pair.
    """
    if not len(a):
        return Kappa(0.0, 0.0, 0.0)
    agreeing = float((a == b).mean())
    k = int(max(a.max(), b.max())) + 1
    chance = float(np.bincount(a, minlength=k) @ np.bincount(b, minlength=k)) / len(a) ** 2
    return Kappa(agreeing, chance, (agreeing - chance) / (1 - chance) if chance < 1 else 0.0)


def neighbour_kappa(own: Int64, theirs: Int64) -> float:
    """Return the kappa of images and their neighbours.

    Parameters
    ----------
    own, theirs
        Clusters of images (n,), and of the k neighbours of each (n, k); -1 if there is none, and no pair.
    """
    pairs = (own[:, None] >= 0) & (theirs >= 0)
    return kappa(np.broadcast_to(own[:, None], theirs.shape)[pairs], theirs[pairs]).kappa
