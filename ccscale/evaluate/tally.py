"""Tallies: counts collected while samples are assigned, summed over batches and ranks, and the figures from them.

A rank holds K sizes, confidences and soft masses and the contingency table, however many samples it assigns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ccscale.array_types import Int64
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.information import SoftCounts
from ccscale.evaluate.matching import many_to_one, one_to_one
from ccscale.evaluate.metrics import score_table, use


class Tally:
    """The sums of some assignments to k clusters.

    Attributes
    ----------
    sizes
        (k,) int64: images in each cluster.
    confidence
        (k,) float64: sums of the soft assignments to the clusters that the images are in.
    soft
        Sums of all soft assignments.
    table
        Clusters against labels, of those images whose label is known.
    unassigned
        Images without a cluster, as one that cannot be decoded.
    """

    def __init__(self, k: int) -> None:
        self.sizes = np.zeros(k, dtype=np.int64)
        self.confidence = np.zeros(k)
        self.soft = SoftCounts(0, np.zeros(k), 0.0)
        self.table = Contingency(k)
        self.unassigned = 0

    def add(
        self,
        clusters: Int64,
        confidence: NDArray[np.floating[Any]],
        labels: Int64,
        assignments: Tensor | None = None,
    ) -> None:
        """Count images.

        Parameters
        ----------
        clusters
            (n,): -1 for an image without a cluster.
        confidence
            (n,): the soft assignment to it.
        labels
            (n,): -1 where not known.
        assignments
            (m, k): soft assignments of those images that have a cluster, where they are known.
        """
        assigned = clusters >= 0
        self.unassigned += int((~assigned).sum())
        clusters, labels = clusters[assigned], labels[assigned]
        np.add.at(self.sizes, clusters, 1)
        np.add.at(self.confidence, clusters, confidence[assigned])
        if assignments is not None:
            self.soft = SoftCounts.join([self.soft, SoftCounts.of(assignments)])
        known = labels >= 0
        self.table.add(clusters[known], labels[known])

    @classmethod
    def join(cls, parts: Sequence["Tally"]) -> "Tally":
        """Add up the sums of all ranks, in their order."""
        joined = cls(len(parts[0].sizes))
        for part in parts:
            joined.sizes += part.sizes
            joined.confidence += part.confidence
            joined.unassigned += part.unassigned
            joined.table.add_cells(part.table.cells())
        joined.soft = SoftCounts.join(part.soft for part in parts)
        return joined

    def summary(self) -> dict[str, Any]:
        """Return all figures of the assignments.

        Returns
        -------
        dict
            Of `metrics.use`; ``confidence`` (mean); ``information`` (in nats, where the soft assignments were
            counted); ``labelled``. Where there are labels also those of `metrics.score_table`, over the labelled
            images.
        """
        result = use(self.sizes)
        result["confidence"] = float(self.confidence.sum() / max(result["images"], 1))
        if self.soft.images == result["images"]:
            result["information"] = self.soft.information
        result["labelled"] = int(self.table.cells().counts.sum())
        return result | score_table(self.table) if result["labelled"] else result

    def per_cluster(self) -> dict[str, list[Any]]:
        """Return columns of k values: what each cluster is.

        Returns
        -------
        dict
            ``size``; ``confidence`` (mean; None for an empty cluster). Where there are labels, of the labelled
            images: ``majority`` (most common class) and ``matched`` (its class in the one-to-one matching), None
            for none; ``purity`` (share of the most common class) and ``entropy`` (of the classes within, in nats).
        """
        columns = {
            "size": self.sizes.tolist(),
            "confidence": _listed(self.confidence / np.maximum(self.sizes, 1), self.sizes > 0),
        }
        cells = self.table.cells()
        if not len(cells.counts):
            return columns
        sizes, largest = np.zeros(len(self.sizes)), np.zeros(len(self.sizes))
        np.add.at(sizes, cells.clusters, cells.counts)
        np.maximum.at(largest, cells.clusters, cells.counts)
        shares = cells.counts / sizes[cells.clusters]
        entropy = np.bincount(cells.clusters, -shares * np.log(shares), len(self.sizes))
        majority, matched = many_to_one(self.table), one_to_one(self.table)
        return columns | {
            "majority": _listed(majority, majority >= 0),
            "matched": _listed(matched, matched >= 0),
            "purity": _listed(largest / np.maximum(sizes, 1), sizes > 0),
            "entropy": _listed(np.abs(entropy), sizes > 0),
        }


def _listed(values: NDArray[Any], known: NDArray[np.bool_]) -> list[Any]:
    return [value if there else None for value, there in zip(values.tolist(), known.tolist(), strict=True)]
