"""How a self-labelling goes, told without labels of people, and whether it goes on: pure.

The first check, before anything is trained by labels, is what the others are compared with. A stage ends where no
image has a label, where fewer clusters are in use, where the clusters have become others than they were, or are
worse by a measure: whether neighbours by the features are together, which nothing trains, and whether the views of
an image are. Then, and at its end, the run serves the best of its checks by the first of these that there is: the
last one of those that are as good as any.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccscale.config.stages import Boost

LEAST_USED = (
    0.8  # of the effective clusters before: a stage may find sizes less even than the cluster loss has them
)
SLACK = 0.01  # of the measure, by which checks of clusters that are as good may differ

Int = NDArray[np.integer[Any]]


class Check(NamedTuple):
    """What is known of a stage after some step.

    Attributes
    ----------
    step
        Steps done.
    labelled
        Share of the images that have a label.
    unlabelled_clusters
        Clusters no image has the label of.
    agreement
        Of the images' clusters with those before: Cohen's kappa, 1 for the same, 0 by chance.
    stability
        Of `evaluate.stability`; None where there are no two views of an image.
    neighbours
        Of `evaluate.neighbourhood`: whether nearest neighbours by the features are in one cluster, a kappa; None
        where there is no store with neighbours.
    effective_clusters
        Of `evaluate.metrics.use`: so many of equal size would be as even.
    """

    step: int
    labelled: float
    unlabelled_clusters: int
    agreement: float
    stability: float | None
    neighbours: float | None
    effective_clusters: float


def of_labels(labels: Int, clusters: Int, before: Int, k: int) -> dict[str, Any]:
    """Return those figures of a check that follow from what is remembered of each image.

    Parameters
    ----------
    labels, clusters, before
        As of `LastingLabels`.
    k
        K.
    """
    seen = (clusters >= 0) & (before >= 0)
    sizes = np.bincount(labels[labels >= 0], minlength=k)
    return {
        "labelled": float((labels[seen] >= 0).mean()) if seen.any() else 0.0,
        "unlabelled_clusters": int((sizes == 0).sum()),
        "agreement": kappa(clusters[seen], before[seen], k),
    }


def kappa(a: Int, b: Int, k: int) -> float:
    """Return Cohen's kappa of two assignments to the same k clusters."""
    if not len(a):
        return 0.0
    agreeing = float((a == b).mean())
    chance = float(np.bincount(a, minlength=k) @ np.bincount(b, minlength=k)) / len(a) ** 2
    return (agreeing - chance) / (1 - chance) if chance < 1 else 1.0


def reason_to_end(checks: Sequence[Check], boost: Boost) -> str | None:
    """Return why a stage is not to go on after the last of its checks; None where it is."""
    before, now = checks[0], checks[-1]
    if not now.labelled:
        return (
            f"no image is so surely in its cluster (stages.boost.threshold {boost.threshold:g}) that it would have "
            "a label"
        )
    if now.effective_clusters < LEAST_USED * before.effective_clusters:
        return (
            f"the clusters are used as unevenly as if there were {now.effective_clusters:.1f} of equal size, and "
            f"{before.effective_clusters:.1f} before it"
        )
    if now.agreement < boost.least_agreement:
        return f"the clusters are others than before it (agreement {now.agreement:.2f})"
    for what, of in (("keep fewer neighbours together", "neighbours"), ("are less stable", "stability")):
        was, found = getattr(before, of), getattr(now, of)
        if was is not None and found is not None and found < was - boost.tolerance:
            return f"the clusters {what} than before it (kappa {found:.2f}, and {was:.2f} before)"
    return None


def best(checks: Sequence[Check]) -> Check:
    """Return the check whose clusters serve, of those a stage may go on after."""
    measured = [check.stability if check.neighbours is None else check.neighbours for check in checks]
    most = max((value for value in measured if value is not None), default=0.0)
    as_good = [
        check for check, value in zip(checks, measured, strict=True) if value is None or value >= most - SLACK
    ]
    return as_good[-1]
