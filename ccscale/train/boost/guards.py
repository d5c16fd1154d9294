"""How a self-labelling goes, told without labels of people, and whether it goes on: pure.

A stage waits, and the run trains on as before, while too few images have a label, or too few clusters, and while
training itself still makes the clusters better: it teaches more then. It does while images move from cluster to
cluster and, by neighbours that stay the same, more of them come together from check to check. The check that it
begins after, before anything is trained by labels, is what the others are compared with. One that does not wait, by
`settled`, ends where it would.

Each cluster in use must have a label before that where the cross-entropy is alone, since it empties those that have
none; half of them where the cluster loss goes on beside it, or where the stage does not wait.

Later it ends where no image has a label, where clusters fall out of use, where the clusters have become others than
they were, and where they keep fewer neighbours together, by features that the stage does not train. It ends where
far fewer images are in one cluster by two views, too; that falls where all goes well, since before the stage it is
trained for itself.

A run whose stage was ended goes on, as before the stage, from the check whose clusters keep most neighbours
together: the last of those that are as good as any. One whose stage was not serves such a check in the end. The
first is compared with them where the stage was ended, and not else: the neighbours are those of the features that
its clusters were made of, or were trained on as pairs, so it keeps more of them than better ones do. Nor is the
second, an epoch later.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ccscale.array_types import Int64
from ccscale.config.stages import Boost
from ccscale.features.kappa import kappa

LEAST = 0.8  # of the effective clusters, and of the stability, before
# Share of the clusters in use that must have labels, beside the cluster loss or where a stage does not wait.
FEWEST = 0.5
SLACK = 0.003  # of the neighbours' kappa, by which checks of clusters that are as good may differ


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
        Of the images' clusters with those before, while it waits with those at the check before: Cohen's kappa, 1
        for the same, 0 by chance.
    stability
        Of `evaluate.stability`; None where there are no two views of an image.
    neighbours
        Whether nearest neighbours by features that the stage does not train are in one cluster, a kappa: of
        `evaluate.head_kappas` or `evaluate.initial_neighbours`.
    effective_clusters
        Of `evaluate.metrics.use`: so many of equal size would be as even.
    """

    step: int
    labelled: float
    unlabelled_clusters: int
    agreement: float
    stability: float | None
    neighbours: float
    effective_clusters: float


def of_labels(labels: Int64, clusters: Int64, before: Int64, k: int) -> dict[str, Any]:
    """Return the figures of a check that follow from the remembered labels and clusters.

    Parameters
    ----------
    labels, clusters, before
        As for `LastingLabels`.
    k
        K.
    """
    seen = (clusters >= 0) & (before >= 0)
    sizes = np.bincount(labels[labels >= 0], minlength=k)
    now, then = clusters[seen], before[seen]
    same = bool(seen.any()) and np.array_equal(now, then)  # where all are in one cluster, kappa would be 0
    return {
        "labelled": float((labels[seen] >= 0).mean()) if seen.any() else 0.0,
        "unlabelled_clusters": int((sizes == 0).sum()),
        "agreement": 1.0 if same else kappa(now, then).kappa,
    }


def reason_to_wait(
    checks: Sequence[Check], boost: Boost, k: int, cluster_weight: float, same: bool = True
) -> str | None:
    """Return why a stage is not to begin after the last of its checks; None where it is.

    Parameters
    ----------
    checks
        The one before, if there is one, and the last.
    boost, k, cluster_weight
        The config's section; K; what the cluster loss weighs beside the cross-entropy.
    same
        Whether both checks are of the same neighbours: those by features that are trained are others each time, and
        tell nothing of whether training still helps.
    """
    now = checks[-1]
    if (few := _too_few(now, boost, k, FEWEST if cluster_weight else 1.0)) is not None:
        return few
    if len(checks) == 1:
        return "whether training still makes the clusters better is not known before the next check"
    before = checks[-2].neighbours
    if now.agreement < boost.settled and (not same or now.neighbours > before + SLACK):
        kappas = f"kappa of neighbours {before:.3f} and now {now.neighbours:.3f}; " if same else ""
        return (
            f"training still changes the clusters ({kappas}agreement {now.agreement:.3f} with the check before, "
            f"and stages.boost.settled is {boost.settled:g})"
        )
    return None


def reason_to_end(checks: Sequence[Check], boost: Boost, k: int) -> str | None:
    """Return why a stage of K clusters is not to go on after the last of its checks; None where it is."""
    before, now = checks[0], checks[-1]
    if not now.labelled:
        at = f" (stages.boost.threshold {boost.threshold:g})" if boost.selection == "threshold" else ""
        return f"no image is so surely in its cluster{at} that it would have a label"
    if len(checks) == 1:
        return _too_few(now, boost, k)
    if now.effective_clusters < LEAST * before.effective_clusters:
        return (
            f"the clusters are used as unevenly as if there were {now.effective_clusters:.1f} of equal size, and "
            f"{before.effective_clusters:.1f} before it"
        )
    if now.agreement < boost.least_agreement:
        return f"the clusters are others than before it (agreement {now.agreement:.2f})"
    if now.neighbours < before.neighbours - boost.tolerance:
        return (
            f"the clusters keep fewer neighbours together than before it (kappa {now.neighbours:.2f}, and "
            f"{before.neighbours:.2f} before)"
        )
    if now.stability is not None and now.stability < LEAST * (before.stability or 0):
        were = f"{now.stability:.2f}, and {before.stability:.2f} before"
        return f"the clusters are less stable than before it ({were})"
    return None


def _too_few(first: Check, boost: Boost, k: int, share: float = FEWEST) -> str | None:
    """Return why there is too little to learn from; None where there is enough."""
    remedy = "train for more epochs first"
    if boost.selection == "threshold":
        remedy += f", or lower stages.boost.threshold ({boost.threshold:g})"
    if first.labelled < boost.least_labelled:
        return (
            f"only {first.labelled:.1%} of the images are so surely in their clusters that they have a label, and "
            f"stages.boost.least_labelled is {boost.least_labelled:.1%}: {remedy}"
        )
    labelled = k - first.unlabelled_clusters
    if labelled < round(share * first.effective_clusters):
        return f"only {labelled} of {k} clusters have an image that is surely in them: {remedy}"
    return None


def best(checks: Sequence[Check], ended: bool = False) -> Check:
    """Return the check whose clusters serve, of those a stage may go on after."""
    if not ended:  # an epoch after the first one the clusters are nearly the same, and favoured as it is
        checks = checks[2:] or checks[1:] or checks
    most = max(check.neighbours for check in checks)
    return [check for check in checks if check.neighbours >= most - SLACK][-1]
