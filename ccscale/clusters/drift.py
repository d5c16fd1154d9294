"""Drift: whether new images differ from those that the clusters were made from, per shard. Pure functions.

Four shifts are measured, each on a scale that means the same for all data and with a p-value: how often a random
permutation of old and new images gives at least this shift (`SHUFFLES` permutations, or until `ENOUGH` reach it;
Besag and Clifford 1991).

- features: for each image, the mean of the known images with the same nearest centre is subtracted. The shift of
  the mean of these residuals, in standard deviations (D), is given as the fraction of pairs that can be told apart
  along it, Φ(D / √2): 1/2 is none, 1 is all. So images are compared only within clusters, and changed frequencies
  are not a shift.
- confidence: 1/2 plus the distance from 1/2 of the probability that a new image is more confident than an old one
  of its cluster.
- sizes: half the sum of the differences of the cluster shares (total variation), from 0 to 1.
- unassigned: the fraction of images without a cluster, of which `USUAL` is expected by construction.

There is an alarm if the p-value is at most `CHANCE` and the shift at least that of `ALARM`: with many images, even
an irrelevant shift is significant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccscale.array_types import Float32, Float64, Int64
from ccscale.clusters.assigning import AssignedImages
from ccscale.clusters.initial_state import FAR
from ccscale.clusters.new_images import CHANCE as NEW_BY_CHANCE
from ccscale.clusters.reservoir import Reservoir
from ccscale.clusters.state import State, nearest_centre

SHUFFLES, ENOUGH, CHANCE = 199, 5, 0.005
USUAL = (1 - FAR) + NEW_BY_CHANCE
ALARM = {"features": 0.6, "confidence": 0.65, "sizes": 0.25, "unassigned": 0.06}
MOST, FEWEST = 1_024, 20  # images of each side that are examined; fewer new ones are not
WORDS = {
    "features": "features have moved away from their clusters' centres (they are told from known ones in {:.0%})",
    "confidence": "the network's confidence has changed (by {:.0%}, where 50% is none)",
    "sizes": "the clusters' shares have changed (by {:.0%} in all)",
    "unassigned": "{:.0%} of the images fit no cluster",
}


@dataclass(frozen=True)
class Reference:
    """Known images, with which new ones are compared.

    Attributes
    ----------
    state
        The clusters.
    means
        (C, q): of those nearest to each centre.
    rows
        (m, q): the residual of each, after subtracting that mean.
    which
        (m,) int64: its nearest centre.
    confidence
        (m,): the network's.
    """

    state: State
    means: Float32
    rows: Float32
    which: Int64
    confidence: Float32

    @classmethod
    def of(cls, state: State, reservoir: Reservoir, heads: Int64, confidence: Float32) -> "Reference":
        """Take the reservoir's images, with the network's answers (m,), (m,)."""
        order = np.random.default_rng(len(reservoir)).permutation(len(reservoir))
        rows = state.space(reservoir.features[order])
        which, _ = nearest_centre(rows, state, heads[order])
        there = which >= 0
        order, rows, which = order[there], rows[there], which[there]
        means = np.zeros_like(state.centres)
        np.add.at(means, which, rows)
        means /= np.maximum(np.bincount(which, minlength=len(means)), 1)[:, None]
        return cls(state, means, rows - means[which], which, confidence[order])

    def measure(
        self, features: Float32, heads: Int64, confidence: Float32, answers: AssignedImages, seed: int
    ) -> dict[str, Any]:
        """Return ``images``, each shift and its ``…_chance``, and ``alarm``: a sentence, or None.

        Parameters
        ----------
        features, heads, confidence
            (n, D), (n,), (n,): the new images, with the network's answers.
        answers
            Their assignments.
        seed
            Of the permutations.
        """
        found: dict[str, Any] = {"images": len(features), "alarm": None}
        if len(features) < FEWEST:
            return found
        random = np.random.default_rng(seed)
        chosen = random.permutation(np.flatnonzero(np.isfinite(features).all(axis=1)))[:MOST]
        if len(chosen) >= FEWEST and len(self.rows) >= FEWEST:
            rows = self.state.space(features[chosen])
            which, _ = nearest_centre(rows, self.state, heads[chosen])
            there = which >= 0
            chosen, which = chosen[there], which[there]
            rows = rows[there] - self.means[which]
            beside = self._like(which, random)
            found |= _named("features", *_separation(rows, self.rows[beside], random))
            surer = confidence[chosen], self.confidence[beside]
            found |= _named("confidence", *_surer(*surer, which, self.which[beside], random))
        found |= _named("sizes", *self._sizes(answers.ids, random))
        found |= _named("unassigned", *_unassigned(answers.ids))
        alarms = [
            WORDS[name].format(found[name])
            for name, least in ALARM.items()
            if found.get(f"{name}_chance", 1) <= CHANCE and found[name] >= least
        ]
        return found | {"alarm": "; ".join(alarms) or None}

    def _like(self, which: Int64, random: np.random.Generator) -> Int64:
        """Return known images, at most `MOST`, with as many of each cluster as new ones, as far as there are."""
        share = np.bincount(which, minlength=len(self.state.ids))
        known = np.bincount(self.which, minlength=len(self.state.ids))
        weight = (share / np.maximum(known, 1))[self.which]
        size = min(MOST, int((weight > 0).sum()))
        return random.choice(len(self.which), size, replace=False, p=weight / weight.sum())

    def _sizes(self, ids: Int64, random: np.random.Generator) -> tuple[float, float]:
        clusters = self.state.clusters
        before = np.array([self.state.size_of(one) for one in clusters.tolist()])
        now = np.array([(ids == one).sum() for one in clusters])
        if not before.sum() or now.sum() < FEWEST:
            return 0.0, 1.0
        shift = _variation(before, now)

        def shuffled() -> float:
            drawn = random.multivariate_hypergeometric(before + now, int(now.sum()), method="marginals")
            return _variation(before + now - drawn, drawn)

        return shift, _chance(shift, shuffled)


def _named(name: str, shift: float, chance: float) -> dict[str, float]:
    return {name: shift, f"{name}_chance": chance}


def _chance(shift: float, shuffled: Callable[[], float]) -> float:
    """Return the fraction of permutations with a shift at least as large."""
    as_large = 0
    for done in range(1, SHUFFLES + 1):
        as_large += shuffled() >= shift
        if as_large == ENOUGH:
            return as_large / done
    return (1 + as_large) / (1 + SHUFFLES)


def _separation(new: Float32, known: Float32, random: np.random.Generator) -> tuple[float, float]:
    """Return how well images (n, q) and (m, q) can be told apart by their means, and the p-value.

    D² = q (|Δ|² / S − 1/n − 1/m), where S is the sum of all variances; its mean over permutations is 0.
    """
    from scipy.special import ndtr

    both, n, m = np.concatenate([new, known]).astype(np.float64), len(new), len(known)
    total, spread = both.sum(axis=0), max(float(both.var(axis=0, ddof=1).sum()), 1e-12)

    def moved(order: Int64) -> float:
        first = both[order[:n]].sum(axis=0)
        return float(((first / n - (total - first) / m) ** 2).sum())

    far = moved(np.arange(n))
    squared = both.shape[1] * (far / spread - 1 / n - 1 / m)
    return float(ndtr(np.sqrt(max(0.0, squared) / 2))), _chance(far, lambda: moved(random.permutation(n + m)))


def _surer(
    new: Float32, known: Float32, of_new: Int64, of_known: Int64, random: np.random.Generator
) -> tuple[float, float]:
    """Return how much confidences differ within clusters, and the p-value."""
    ranks, both = np.concatenate([new, known]).astype(np.float64), np.concatenate([of_new, of_known])
    for one in np.unique(both):
        own = np.flatnonzero(both == one)
        ranks[own] = _ranks(ranks[own]) / (len(own) + 1)

    def of(order: Int64) -> float:
        return abs(_above(ranks[order[: len(new)]], ranks[order[len(new) :]]) - 0.5) + 0.5

    shift = of(np.arange(len(ranks)))
    return shift, _chance(shift, lambda: of(random.permutation(len(ranks))))


def _unassigned(ids: Int64) -> tuple[float, float]:
    from scipy.stats import binom

    count = int((ids < 0).sum())
    return count / len(ids), float(binom.sf(count - 1, len(ids), USUAL))


def _variation(first: Int64, second: Int64) -> float:
    return float(np.abs(first / max(1, first.sum()) - second / max(1, second.sum())).sum() / 2)


def _ranks(values: Float64) -> Float64:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), np.float64)


def _above(first: Float64, second: Float64) -> float:
    """Return the probability that a value of the first exceeds one of the second; ties count half."""
    ranks = _ranks(np.concatenate([first, second]))
    return float((ranks[: len(first)].sum() - len(first) * (len(first) + 1) / 2) / (len(first) * len(second)))
