"""Measures how reliable a run's predictions are, during evaluation; on one rank.

RUN/labels.csv the labels given last (``evaluate --labels``), used for later checkpoints too
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ccscale.evaluate.basis import Basis
from ccscale.evaluate.calibration import Calibration
from ccscale.evaluate.feature_subset import FeatureSubset
from ccscale.evaluate.given_labels import GivenLabels, Named, name_clusters, read_labels
from ccscale.evaluate.rejection import RejectionModel
from ccscale.evaluate.reliability import Reliability, assign_features
from ccscale.evaluate.reliability_scores import reliability_scores
from ccscale.features.store import Features
from ccscale.model.network import ContrastiveClustering

LABELS = "labels.csv"


@dataclass(frozen=True)
class ReliabilityEvaluation:
    """Measures calibration, rejection and names on the images of an evaluation.

    Attributes
    ----------
    folder
        The run's folder.
    network
        With its serving head.
    basis
        The network and the images.
    subset
        Features of some of the images, as they were assigned.
    matched
        (K,) int64: the class that each cluster stands for, one-to-one; -1 for none.
    """

    folder: Path
    network: ContrastiveClustering
    basis: Basis
    subset: FeatureSubset
    matched: NDArray[np.int64]

    def keep(
        self,
        pairs: NDArray[np.float32],
        table: Path,
        given: GivenLabels | None,
        features: Features | None,
        seed: int,
    ) -> dict[str, Any]:
        """Fit to the run's own images, and store the result for predictions.

        Parameters
        ----------
        pairs
            (2, n, K): soft assignments of two views of some images, by the serving head.
        table
            The run's table of assignments.
        given
            A few labels; default those given before, if any.
        features
            The store of the images; None for shards.
        seed
            For choosing the images to keep.

        Returns
        -------
        dict
            As for `measure`; of given labels ``names`` (columns ``name``, ``said``, ``labels`` of the clusters) and
            ``given`` (see `Named.figures`).

        Raises
        ------
        InputError
            If none of the given labels is of an image.
        """
        if given is None and (self.folder / LABELS).exists():
            given = read_labels(self.folder / LABELS)
        named = None if given is None else self._name(given, table)
        known = () if named is None else (named.confidence, named.right)
        calibration, names = Calibration.fit(pairs, *known), None if named is None else named.names
        Reliability(self.basis, calibration, self._reach(features, seed), names).save(self.folder)
        if given is None or named is None:
            return self._trust(calibration)
        given.save(self.folder / LABELS)
        columns = {"name": named.names.names, "said": named.names.said, "labels": named.names.labels}
        told = {"names": {key: list(row) for key, row in columns.items()}, "given": named.figures}
        return told | self._trust(calibration, named)

    def measure(self) -> dict[str, Any]:
        """Measure other images than the run's own, or some of them, with the stored calibration.

        Returns
        -------
        dict
            ``trust`` (see `reliability_scores.reliability_scores`), where the data set's labels are known.
        """
        kept = Reliability.load(self.folder)
        is_own = kept is not None and kept.is_of(self.basis.weights, self.basis.head)
        return self._trust(kept.calibration if kept is not None and is_own else None)

    def _name(self, given: GivenLabels, table: Path) -> Named:
        """Name the clusters by given labels."""
        found = pq.read_table(table, columns=["key", "cluster", "confidence"])
        clusters = found["cluster"].fill_null(-1).to_numpy().astype(np.int64)
        confidence = found["confidence"].fill_null(0).to_numpy().astype(np.float32)
        return name_clusters(given, found["key"].combine_chunks(), clusters, confidence, self.network.k)

    def _reach(self, features: Features | None, seed: int) -> RejectionModel | None:
        """Fit the rejection model on the images, treated like new ones."""
        if len(self.subset.rows) < 2:
            return None
        order = RejectionModel.choose(len(self.subset.rows), seed)
        images = self.subset.rows[order]
        rows = self.subset.backbone[order] if features is None else features.take(images)
        return RejectionModel.fit(rows, assign_features(self.network, rows)[1])

    def _trust(self, calibration: Calibration | None, named: Named | None = None) -> dict[str, Any]:
        """Measure with the data set's labels, excluding the images that the calibration was fitted on."""
        kept = self.subset.labels >= 0
        if named is not None:
            kept &= ~np.isin(self.subset.rows, named.rows)
        measured = self.subset.of(kept)
        if not len(measured.rows):
            return {}
        clusters, confidence = assign_features(self.network, measured.backbone)
        right = self.matched[clusters] == measured.labels
        return {
            "trust": reliability_scores(
                confidence, None if calibration is None else calibration(confidence), right
            )
        }
