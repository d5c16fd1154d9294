"""Assigns every sample exactly once, on any number of ranks: cluster, second most likely cluster, features.

Samples are processed in batches, and memory does not grow with their number. The caller decides what to keep:
sums (`tally.py`), tables (`parts_folder.py`), features of some (`feature_subset.py`).
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale import dist
from ccscale.array_types import Float32, Int64
from ccscale.config import Config
from ccscale.data.file_reader import FileReader
from ccscale.data.images.channels import Channels
from ccscale.data.images.colour import to_float
from ccscale.data.order.schedule import owned
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.pixels import follow_pixels
from ccscale.data.whole_images import WholeBatch, whole_batches
from ccscale.evaluate.tally import Tally
from ccscale.features.batches import whole_features
from ccscale.features.store import Features
from ccscale.model.network import ContrastiveClustering, Outputs
from ccscale.preempt import Stopped, StopRequest
from ccscale.progress import Meter


@dataclass(frozen=True)
class Assigned:
    """The clusters of a batch of n images.

    Attributes
    ----------
    batch
        The images' numbers, keys and labels, and which could not be decoded (`batch.bad`).
    outputs
        What the network made of them, on its device.
    clusters
        (n,) int64; -1 for an image that cannot be decoded.
    confidence
        (n,) float32: the soft assignment to the cluster; 0 for an image that cannot be decoded.
    second, second_confidence
        The same of the next likely cluster.
    calibrated
        (n,) float32: the confidence, calibrated; None where it is not.
    names
        The cluster's name, of each image; None where clusters have none.
    reasons
        Why an image was left without a cluster, None for those that were not; None where none is to be.
    """

    batch: WholeBatch
    outputs: Outputs
    clusters: Int64
    confidence: Float32
    second: Int64
    second_confidence: Float32
    calibrated: Float32 | None = None
    names: Sequence[str | None] | None = None
    reasons: Sequence[str | None] | None = None

    @property
    def soft(self) -> Tensor:
        """Return the soft assignments of those images that can be decoded."""
        good = torch.from_numpy(~self.batch.bad)
        return self.outputs.assignments[good.to(self.outputs.assignments.device)]

    def called(self, names: Sequence[str | None]) -> "Assigned":
        """Return them with the names of their clusters, of all clusters' (K,)."""
        return replace(self, names=[names[cluster] if cluster >= 0 else None for cluster in self.clusters])

    def count(self, tally: Tally) -> None:
        """Count these images."""
        tally.add(self.clusters, self.confidence, self.batch.labels, self.soft)


def assign(
    network: ContrastiveClustering,
    manifest: Manifest,
    splits: Sequence[str],
    config: Config,
    *,
    workers: int = 0,
    spans: Sequence[range] | None = None,
    groups: Int64 | None = None,
    request: StopRequest | None = None,
    origins: bool = False,
    files: FileReader | None = None,
    progress: bool = True,
    features: Features | None = None,
) -> Generator[Assigned]:
    """Assign samples to clusters, batch by batch; no rank waits for another.

    Parameters
    ----------
    network
        On its device; it is left in the mode it was in.
    manifest, splits
        The data set and its splits.
    config
        How its images are read, and how many at a time.
    workers
        Loader processes.
    spans
        The numbers of this rank's samples: one after the other, and no batch across an end. By default this rank's
        share, so that all ranks have each sample exactly once.
    groups
        (K,) int64: the group that each cluster is merged into, counted from 0. Then clusters are groups: an image
        is in the group of its cluster, its confidence is the sum over the group's clusters.
    request
        Stops it early.
    origins
        Also tell where the images came from (`WholeBatch.origins`).
    files
        What reads the images where these are no shards but files.
    progress
        Show progress.
    features
        A store of these splits: what it holds is taken instead of the images.

    Raises
    ------
    InputError, Fault
        For an unknown split, or a shard that cannot be read.
    """
    follow_pixels(network.settings, manifest)  # images of other channels are refused
    total = sum(shard.nsamples for shard in manifest.select(splits))
    share = -(-total // dist.world()) if spans is None else sum(map(len, spans))
    if features is not None:
        own = [owned(total, dist.rank(), dist.world())]
        batches = whole_features(features, config.evaluate.batch, own if spans is None else spans)
    else:
        batches = whole_batches(
            manifest,
            splits,
            network.size,
            config.evaluate.batch,
            scaled_decode=config.views.scaled_decode,
            rank=dist.rank(),
            world=dist.world(),
            workers=workers,
            access=Access.of(config.data),
            spans=spans,
            origins=origins,
            files=files,
            channels=Channels.of(network.settings),
        )
    if request is not None:
        batches = request.until(batches)
    show = progress and dist.rank() == 0
    # Closed by name: it has processes, and who else refers to it would keep them.
    with closing(batches), evaluating(network), Meter("assigning", share, "images", show) as meter:
        for batch in batches:
            yield assign_batch(network, batch, groups)
            meter.advance(len(batch.keys))


def measure(
    network: ContrastiveClustering,
    manifest: Manifest,
    splits: Sequence[str],
    config: Config,
    workers: int = 0,
    request: StopRequest | None = None,
    progress: bool = True,
    features: Features | None = None,
) -> Tally | None:
    """Assign every sample of some splits and count; all ranks call it together.

    They are in step with each other: after each batch they agree whether one was asked to stop.

    Returns
    -------
    Tally or None
        The sums of all ranks on rank 0, None elsewhere.

    Raises
    ------
    InputError, Fault
        On all ranks, as `assign` does.
    Stopped
        On all ranks, if one was asked to stop.
    """
    tally, failure, stopping = Tally(network.k), None, 0
    most = -(-sum(shard.nsamples for shard in manifest.select(splits)) // dist.world())  # that a rank has
    batches = assign(
        network,
        manifest,
        splits,
        config,
        workers=workers,
        request=request,
        progress=progress,
        features=features,
    )
    with closing(batches) as coming:
        for _ in range(-(-most // config.evaluate.batch)):
            try:
                if (assigned := next(coming, None)) is not None:
                    assigned.count(tally)
            except Exception as error:
                failure = error
            stopping, failing = dist.sum_integers([bool(request), failure is not None])
            if stopping or failing:
                break

    def check() -> None:
        if failure is not None:
            raise failure

    dist.together(check)
    if stopping:
        raise Stopped
    tallies = dist.gather_objects(tally)
    return None if tallies is None else Tally.join(tallies)


@contextmanager
def evaluating(network: ContrastiveClustering) -> Iterator[None]:
    """Put a network into evaluation mode for the length of the context."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@torch.inference_mode()
def assign_batch(network: ContrastiveClustering, batch: WholeBatch, groups: Int64 | None = None) -> Assigned:
    """Assign the images of a batch; the network is in evaluation mode. For `groups` see `assign`."""
    inputs = batch.images.to(network.device, non_blocking=True)
    outputs = network(inputs.to(network.dtype) if inputs.ndim == 2 else to_float(inputs, network.dtype))
    p = outputs.assignments
    clusters = p.argmax(dim=1)
    if groups is not None:
        joined = torch.from_numpy(groups).to(p.device)
        p = p.new_zeros((len(p), int(groups.max()) + 1)).index_add_(1, joined, p)
        outputs, clusters = outputs._replace(assignments=p), joined[clusters]
    rows = torch.arange(len(p), device=p.device)
    others = p.clone()
    others[rows, clusters] = -1
    next_confidence, second = others.max(dim=1)
    alone = p.shape[1] == 1  # everything in one group: there is no other
    return Assigned(
        batch,
        outputs,
        np.where(batch.bad, -1, clusters.cpu().numpy()),
        _known(p[rows, clusters], batch.bad),
        np.where(batch.bad | alone, -1, second.cpu().numpy()),
        _known(next_confidence, batch.bad | alone),
    )


def _known(values: Tensor, unknown: NDArray[np.bool_]) -> Float32:
    return np.where(unknown, 0, values.float().cpu().numpy()).astype(np.float32)
