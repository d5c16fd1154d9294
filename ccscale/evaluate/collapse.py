"""Warnings about collapsed clusters: pure functions of a summary (`Tally.summary`).

empty      clusters without images: more than twice as many as chance leaves of even ones, K (1 − 1/K)^N
swallowed  one cluster holds half of all images or more (of few clusters: 3/K, at most nine tenths)
uneven     as many as a quarter of the clusters would do: exp(entropy of the sizes) < K / 4
blind      assignments tell next to nothing about the images: information < log K / 20
"""

import math
from dataclasses import dataclass
from typing import Any

from ccscale.wording import agree, counted


@dataclass(frozen=True)
class ClusterProblem:
    """Something that is wrong.

    Attributes
    ----------
    kind
        One of those above.
    severity
        Above 0; twice as much is much worse.
    sentence
        For people.
    """

    kind: str
    severity: float
    sentence: str


def find_problems(summary: dict[str, Any]) -> list[ClusterProblem]:
    """Return what is wrong with the clusters of a summary, nothing where all is well or there are no images."""
    images, k = summary["images"], summary["clusters"]
    if not images:
        return []
    found = []
    empty, largest = summary["empty"], summary["largest"]
    if empty > 2 * k * (1 - 1 / k) ** images + 0.5:
        are, them = agree(empty, "is", "are"), agree(empty, "it", "them")
        text = f"{empty:,} of {counted(k, 'cluster')} {are} empty: no image is assigned to {them}"
        found.append(ClusterProblem("empty", empty, text))
    if largest >= min(0.9, max(0.5, 3 / k)):
        cluster = summary["sizes"].index(max(summary["sizes"]))
        text = f"cluster {cluster} swallows the rest: it holds {largest:.0%} of all images"
        # What is left to the others halves where it gets much worse.
        found.append(ClusterProblem("swallowed", 1 / max(1 - largest, 1e-9), text))
    elif (effective := summary["effective_clusters"]) < min(k, images) / 4:
        text = f"the {k:,} clusters are used as unevenly as if there were {effective:.1f} of equal size"
        found.append(ClusterProblem("uneven", k / effective, text))
    information = summary.get("information")
    if information is not None and information < math.log(k) / 20:
        text = f"the assignments tell next to nothing about the images: {information:.3f} of {math.log(k):.2f} nats"
        found.append(ClusterProblem("blind", 1 / max(information, 1e-9), text))
    return found


class CollapseWatch:
    """Tells of each thing once, and again where it has become twice as bad; forgets what is over."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def news(self, summary: dict[str, Any]) -> list[str]:
        """Return the sentences about a summary that are new, or much worse than when they were last told."""
        found = find_problems(summary)
        kinds = {finding.kind for finding in found}
        self._told = {kind: severity for kind, severity in self._told.items() if kind in kinds}
        new = [finding for finding in found if finding.severity >= 2 * self._told.get(finding.kind, 0)]
        self._told |= {finding.kind: finding.severity for finding in new}
        return [finding.sentence for finding in new]
