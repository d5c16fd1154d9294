"""Every sample exactly once, at any number of ranks -> its cluster, its confidence, its features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale import dist
from ccscale.data.access import Access
from ccscale.data.colour import to_float
from ccscale.data.manifest import Manifest
from ccscale.data.stream import whole_batches
from ccscale.evaluate.information import SoftCounts
from ccscale.evaluate.metrics import summarize
from ccscale.model.network import ContrastiveClustering
from ccscale.progress import Meter


@dataclass(frozen=True)
class Assignments:
    """The clusters of N samples, in the order of the shards.

    Attributes
    ----------
    keys
        Names.
    clusters
        (N,) int64; -1 for an image that cannot be decoded.
    confidence
        (N,) float32: the soft assignment to the cluster; 0 for an image that cannot be decoded.
    labels
        (N,) int64; -1 where not known.
    features
        (N, D) float32: the backbone's features, where they were asked for.
    reasons
        A line for each image that cannot be decoded.
    soft
        Sums of the soft assignments of those that can be; None where they are not known.
    """

    keys: tuple[str, ...]
    clusters: NDArray[np.int64]
    confidence: NDArray[np.float32]
    labels: NDArray[np.int64]
    features: NDArray[np.float32] | None
    reasons: tuple[str, ...]
    soft: SoftCounts | None = None

    @classmethod
    def join(cls, parts: Sequence["Assignments"]) -> "Assignments":
        """Join parts in their order."""
        features = [part.features for part in parts if part.features is not None]
        soft = [part.soft for part in parts if part.soft is not None]
        return cls(
            tuple(key for part in parts for key in part.keys),
            np.concatenate([part.clusters for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate(features) if len(features) == len(parts) else None,
            tuple(line for part in parts for line in part.reasons),
            SoftCounts.join(soft) if len(soft) == len(parts) else None,
        )

    def summary(self, k: int, labels: bool = True) -> dict[str, Any]:
        """Return the figures of `metrics.summarize` for k clusters, against the labels if asked for."""
        known = self.labels if labels else np.full_like(self.labels, -1)
        information = None if self.soft is None else self.soft.information
        return summarize(self.clusters, self.confidence, known, k, information)


def assign(
    network: ContrastiveClustering,
    manifest: Manifest,
    splits: Sequence[str],
    *,
    batch: int,
    scaled_decode: bool = True,
    workers: int = 0,
    features: bool = False,
    progress: bool = True,
    access: Access | None = None,
) -> Assignments | None:
    """Assign every sample of some splits to a cluster; all ranks call it together.

    Parameters
    ----------
    network
        On its device; it is left in the mode it was in.
    manifest, splits
        The samples.
    batch
        Images a rank takes at a time.
    scaled_decode
        See `config.Views`.
    workers
        Loader processes of this rank.
    features
        Keep the backbone's features too: N x D x 4 bytes on rank 0.
    progress
        Show how far it is.
    access
        How shards that are no local files are read.

    Returns
    -------
    Assignments or None
        Of all ranks together on rank 0, None elsewhere.

    Raises
    ------
    InputError, Fault
        On all ranks: for an unknown split, or a shard that cannot be read.
    """
    total = sum(shard.nsamples for shard in manifest.select(splits))
    batches = whole_batches(
        manifest,
        splits,
        network.size,
        batch,
        scaled_decode=scaled_decode,
        rank=dist.rank(),
        world=dist.world(),
        workers=workers,
        access=access,
    )
    show = progress and dist.rank() == 0

    def assign_share() -> Assignments:
        with Meter("assigning", -(-total // dist.world()), "images", show) as meter:
            parts = [_nothing(network, features)]
            for part in _assign(network, batches, features):
                parts.append(part)
                meter.advance(len(part.keys))
        return Assignments.join(parts)

    training = network.training
    network.eval()
    try:
        share = dist.together(assign_share)
    finally:
        network.train(training)
    gathered = dist.gather_objects(share)
    return None if gathered is None else Assignments.join(gathered)


@torch.inference_mode()
def _assign(network: ContrastiveClustering, batches: Iterator[Any], features: bool) -> Iterator[Assignments]:
    some = next(network.parameters())
    for batch in batches:
        images = to_float(batch.images.to(some.device, non_blocking=True), some.dtype)
        outputs = network(images)
        confidence, clusters = outputs.assignments.max(dim=1)
        yield Assignments(
            batch.keys,
            np.where(batch.bad, -1, clusters.cpu().numpy()),
            np.where(batch.bad, 0, confidence.float().cpu().numpy()).astype(np.float32),
            batch.labels,
            outputs.features.float().cpu().numpy() if features else None,
            batch.reasons,
            SoftCounts.of(outputs.assignments[torch.from_numpy(~batch.bad).to(some.device)]),
        )


def _nothing(network: ContrastiveClustering, features: bool) -> Assignments:
    """Return the assignments of no samples, for a rank that has none."""
    width = network.cluster_head.layers[0].in_features
    return Assignments(
        (),
        np.empty(0, dtype=np.int64),
        np.empty(0, dtype=np.float32),
        np.empty(0, dtype=np.int64),
        np.empty((0, width), dtype=np.float32) if features else None,  # type: ignore[arg-type]
        (),
        SoftCounts(0, np.zeros(network.settings.clusters), 0.0),
    )
