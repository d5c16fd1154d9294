"""Initializes cluster heads from a feature store: their mean input, and clusters instead of random weights.

They are set by ``model.head_input`` and ``model.begin``.

Each head is fitted by cross-entropy, on a random view of each image in turn, before the first step; training then
continues as usual. The result depends only on store, config and seed, so a run that was killed before its first
checkpoint starts from the same heads.
"""

import copy
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.config import Config
from ccscale.features.first_clusters import FirstClusters
from ccscale.features.store import Features
from ccscale.features.vectors import BLOCK
from ccscale.model.heads import ClusterHead
from ccscale.model.network import ContrastiveClustering
from ccscale.progress import Meter

EPOCHS, BATCH = 3, 256
FEWEST, MOST = 2**9, 2**13  # steps, whatever the number of images
RATE = 1e-3  # Adam's
LEAST = 1e-12  # an assignment that is smaller counts as this one: its logarithm is finite


def prepare_heads(
    network: ContrastiveClustering, features: Features, config: Config, device: torch.device | None = None
) -> None:
    """Initialize the cluster heads of a network; all ranks call it together, with the same result.

    Parameters
    ----------
    network
        As built, with its teacher or shares if it has them; it stays on its device.
    features
        The training rows.
    config
        The run's config: the input and initialization of heads, the seed.
    device
        For the computation; default the CPU.
    """
    model, device = config.model, device or torch.device("cpu")
    cluster_head = network.cluster_head
    heads = [cluster_head] if isinstance(cluster_head, ClusterHead) else list(cluster_head)
    if model.head_input == "centred":
        mean = dist.on_rank_zero(lambda: _mean(features))
        for head in heads:
            assert head.centred is not None
            head.centred.mean.copy_(mean)
    shares: list[NDArray[np.float64]] = []
    if model.begin:
        first = FirstClusters(features, device)
        for number, (head, k) in enumerate(zip(heads, model.trained_clusters, strict=True)):
            kind, found = first.find(model.begin, k, config.seed + number % model.heads)
            dist.say(f"cluster head {number} begins from {k:,} clusters of the store: {kind}")
            shares.append(np.bincount(found, minlength=k) / len(found))
            fit = partial(fit_head, head, features, first.rows, found, (config.seed, number), device)
            head.load_state_dict(dist.on_rank_zero(fit))
    network.begin_training(config.loss)  # a teacher begins as what they are now
    if shares and network.shares is not None:
        network.shares.copy_(torch.from_numpy(np.concatenate(shares)))


def _mean(features: Features) -> Tensor:
    """Return the mean (D,) of the features of all good rows, each of them the mean of its views."""
    rows = np.flatnonzero(~features.bad)
    total = np.zeros(features.width)
    for start in range(0, len(rows), BLOCK):
        total += features.mean(rows[start : start + BLOCK]).sum(axis=0, dtype=np.float64)
    return torch.from_numpy(total / max(1, len(rows)))


def fit_head(
    head: nn.Module,
    features: Features,
    rows: Int64,
    clusters: Int64,
    seed: tuple[int, int],
    device: torch.device,
) -> dict[str, Tensor]:
    """Return the weights of a copy of a head, fitted to the clusters (n,) of rows (n,)."""
    fitted = copy.deepcopy(head).to(device).train()
    optimizer = torch.optim.Adam(fitted.parameters(), lr=RATE)
    generator = np.random.default_rng(seed)
    batch = min(BATCH, len(rows))
    steps = min(MOST, max(FEWEST, EPOCHS * len(rows) // batch))
    order: Int64 = np.empty(0, np.int64)
    with Meter("fitting a head", steps, "steps", show=True) as meter:
        for _ in range(steps):
            if len(order) < batch:
                order = generator.permutation(len(rows))
            chosen, order = order[:batch], order[batch:]
            views = generator.integers(features.views + 1, size=batch)
            inputs = torch.from_numpy(features.take(rows[chosen], views)).to(device)
            target = torch.from_numpy(clusters[chosen]).to(device)
            right = fitted(inputs).gather(1, target[:, None])
            optimizer.zero_grad()
            (-right.clamp_min(LEAST).log().mean()).backward()
            optimizer.step()
            meter.advance(1)
    return {name: value.detach().cpu() for name, value in fitted.state_dict().items()}
