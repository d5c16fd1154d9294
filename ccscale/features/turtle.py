"""TURTLE: labels that are easy to learn by linear classifiers on one or several feature spaces (Gadetsky et al.,
"Let go of your labels with unsupervised transfer", ICML 2024).

With the features z_s of the spaces s = 1..S, the labels are ``p = mean_s softmax(V_s z_s)``, V_s weight-normed. In
each step a batch is drawn; newly initialized linear maps W_s take `INNER` steps towards the current labels, then
the labels take one step towards the outputs of these maps, while entropies of the mean labels keep clusters from
becoming empty::

    loss(V) = Σ_s CE(W_s z_s, p) − γ Σ_s H(mean of softmax(V_s z_s))

Each space is centred, and scaled by one number to a variance of 1 on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ccscale.errors import InputError
from ccscale.features.turtle_state import Keeper, TurtleState
from ccscale.features.vectors import BLOCK, Vectors
from ccscale.progress import Meter

STEPS, BATCH, GAMMA = 6000, 10_000, 10.0
INNER, RATE = 10, 1e-3  # steps of the inner maps; rate of Adam, inside and outside
SAMPLE = 2**16  # rows that a space's mean and scale are taken of
IN_MEMORY = 2**31  # bytes of features that are kept on the device
LAST = 100  # steps whose mean loss is told


@dataclass(frozen=True)
class TurtleLabels:
    """The result for n images.

    Attributes
    ----------
    clusters : numpy.ndarray
        (n,) int64.
    confidence : numpy.ndarray
        (n,) float32: the label's share.
    loss : float
        The mean of the last steps; the lower, the better the labels of several seeds.
    """

    clusters: NDArray[np.int64]
    confidence: NDArray[np.float32]
    loss: float


def turtle(
    vectors: Sequence[Vectors],
    clusters: int,
    seed: int = 0,
    *,
    steps: int = STEPS,
    batch: int = BATCH,
    gamma: float = GAMMA,
    device: torch.device | None = None,
    keeper: Keeper | None = None,
    show: bool = False,
) -> TurtleLabels:
    """Cluster images by their features in one or several spaces.

    Parameters
    ----------
    vectors
        Of each space, n of the same images.
    clusters
        K, at most n.
    seed
        Of the maps and the batches.
    steps, batch
        How many steps, and images of a step.
    gamma
        Weight of the entropies.
    device
        Where it is computed; the CPU by default.
    keeper
        Goes on from what it has kept of the search, and keeps more.
    show
        Show how far it has come.

    Raises
    ------
    InputError
        If there are fewer images than clusters.
    """
    images = len(vectors[0])
    if not 2 <= clusters <= images:
        raise InputError(f"{images:,} images do not allow {clusters:,} clusters: use 2 to {images:,}")
    device = device or torch.device("cpu")
    draw = torch.Generator().manual_seed(seed)
    spaces = [_Space(of, device) for of in vectors]
    maps = nn.ModuleList([weight_norm(_linear(of.width, clusters, draw)) for of in vectors]).to(device)
    optimizer = torch.optim.Adam(maps.parameters(), lr=RATE)
    state = TurtleState(maps, optimizer, draw)
    if keeper is not None:
        keeper.restore(state)
    with Meter("finding labels", steps, "steps", show, state.step) as meter:
        while state.step < steps:
            rows = torch.randperm(images, generator=draw)[:batch].sort().values
            features = [space.take(rows.numpy()) for space in spaces]
            labels = [layer(z).softmax(dim=1) for layer, z in zip(maps, features, strict=True)]
            p = torch.stack(labels).mean(dim=0)
            inner = [_learn(z, p.detach(), draw) for z in features]
            told = [_cross_entropy(layer(z), p) for layer, z in zip(inner, features, strict=True)]
            entropies = [torch.special.entr(label.mean(dim=0)).sum() for label in labels]
            loss = torch.stack(told).sum() - gamma * torch.stack(entropies).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state.losses = [*state.losses[1 - LAST :], loss.detach()]
            state.step += 1
            if keeper is not None:
                keeper.keep(state, is_last=state.step == steps)
            meter.advance()
    chosen, confidence = np.empty(images, np.int64), np.empty(images, np.float32)
    with torch.inference_mode():
        for start in range(0, images, BLOCK):
            block = np.arange(start, min(start + BLOCK, images))
            found = [
                layer(space.take(block)).softmax(dim=1) for layer, space in zip(maps, spaces, strict=True)
            ]
            largest, of = torch.stack(found).mean(dim=0).max(dim=1)
            chosen[block], confidence[block] = of.cpu().numpy(), largest.cpu().numpy()
    return TurtleLabels(chosen, confidence, float(torch.stack(state.losses).mean()))


class _Space:
    """The features of one space, centred and scaled; in memory where there is room."""

    def __init__(self, vectors: Vectors, device: torch.device) -> None:
        self._vectors, self._device = vectors, device
        count = min(len(vectors), SAMPLE)
        sample = vectors.take(np.linspace(0, len(vectors) - 1, count).astype(np.int64))
        self._mean = sample.mean(dim=0)
        self._scale = (sample - self._mean).square().mean().sqrt().clamp_min(1e-12)
        self._kept: Tensor | None = None
        if 4 * len(vectors) * vectors.width <= IN_MEMORY:
            self._kept = self._read(np.arange(len(vectors)))

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Return rows (m, D) on the device."""
        return self._read(rows) if self._kept is None else self._kept[torch.from_numpy(rows).to(self._device)]

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        return ((self._vectors.take(rows) - self._mean) / self._scale).to(self._device)


def _linear(width: int, clusters: int, draw: torch.Generator) -> nn.Linear:
    """Return a linear map as torch begins one, of the seed's own numbers."""
    layer, bound = nn.Linear(width, clusters), width**-0.5
    with torch.no_grad():
        for values in layer.parameters():
            values.uniform_(-bound, bound, generator=draw)
    return layer


def _learn(z: Tensor, labels: Tensor, draw: torch.Generator) -> nn.Linear:
    """Return a fresh map that has taken a few steps towards the labels; it stays as it is from then on."""
    layer = _linear(z.shape[1], labels.shape[1], draw).to(z.device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=RATE)
    for _ in range(INNER):
        optimizer.zero_grad()
        _cross_entropy(layer(z), labels).backward()
        optimizer.step()
    return layer.requires_grad_(False)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -(labels * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
