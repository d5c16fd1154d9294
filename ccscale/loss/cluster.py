"""Cluster-level contrastive loss over the global batch (paper, section 'Cluster-level Contrastive Head').

The columns of the global assignment matrices, ``C = [P_a | P_b]`` (N x 2K), represent the clusters. With the
cosine similarity ``S`` of the 2K columns over τ and the positive ``p(i)`` of column i, the same cluster in the
other view::

    loss = mean_i ( logsumexp_{k≠i} S_ik − S_ip(i) )  +  w Σ_{views} ( Σ_k q_k log q_k + log K ),   q = column mean

The weight w of the entropy term is 1 in the paper. The term is the divergence of q from the uniform distribution;
another prior may replace that (`prior.py`).

It is computed in one of two ways, both exact:

- From ``CᵀC`` (2K x 2K) and the 2K column sums: one all-reduce of 4K² + 2K numbers, whatever N.
- If N is below 2K, the rows of C are smaller: they are gathered, and the columns go through the tiles of the
  instance loss (`tiles.py`), so that no 2K x 2K matrix is formed.

The backward pass communicates nothing: every rank knows the gradient with respect to the reduced sums.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist
from ccscale.loss.dry_run import alike
from ccscale.loss.inputs import check_inputs
from ccscale.loss.prior import Prior
from ccscale.loss.tiles import RowPulls, RowSums

EPSILON = (
    1e-12  # a column that is shorter counts as this long, so that an empty cluster has a finite gradient
)
STRIP = 2**22  # elements of S that are held at a time beside CᵀC


def cluster_loss(
    p_a: Tensor,
    p_b: Tensor,
    temperature: float = 1.0,
    group: ProcessGroup | None = None,
    check: bool = True,
    entropy_weight: float = 1.0,
    prior: Prior | None = None,
    half: bool = False,
) -> Tensor:
    """Return the cluster-level contrastive loss of the global batch, with its entropy term.

    Parameters
    ----------
    p_a, p_b : Tensor
        This rank's soft assignments of the two views, (n, K), K at least 2, rows that sum to 1; n and K the
        same on all ranks.
    temperature : float, default 1.0
        Temperature τ.
    group : ProcessGroup, optional
        The ranks whose batches make up the global batch; default all.
    check : bool, default True
        First compare the shapes on all ranks, with a small collective call; see `instance_loss`.
    entropy_weight : float, default 1.0
        Weight of the entropy term; 1 in the paper.
    prior : callable, optional
        Returns the log prior of the cluster sizes, (K,), from the batch's mean assignments (K,) and from what both
        views agree on (K,). Default: uniform, as in the paper. See `ccscale.loss.prior`.
    half : bool, default False
        Whether float32 products on an NVIDIA GPU may use TF32 (operands rounded to 11 bits).

    Returns
    -------
    Tensor
        The loss over the N = nW images, a scalar in float32 (float64 for float64 inputs), the same on all
        ranks. Its gradient to `p_a` and `p_b` is W times the derivative; see `ccscale.loss`.

    Raises
    ------
    ValueError
        If the shapes differ, on this rank or between ranks, or are not (n, K) with K at least 2, or the
        temperature is not above 0.
    """
    return ClusterLoss(p_a, p_b, temperature, group, check, entropy_weight, prior, half).value()


class ClusterLoss:
    """The loss in two steps: what it needs of the other ranks is sent for at once, and `value` waits for it.

    Parameters are those of `cluster_loss`.
    """

    def __init__(
        self,
        p_a: Tensor,
        p_b: Tensor,
        temperature: float = 1.0,
        group: ProcessGroup | None = None,
        check: bool = True,
        entropy_weight: float = 1.0,
        prior: Prior | None = None,
        half: bool = False,
    ) -> None:
        check_inputs("p_a and p_b", p_a, p_b, 2, temperature, group, check)
        c = torch.cat([p_a, p_b], dim=1)  # (n, 2K)
        self._c = c if c.dtype == torch.float64 else c.float()
        self._settings, self._group, self._prior = (temperature, entropy_weight), group, prior
        self._half = half
        with torch.no_grad(), _products_of(c, half):
            c = self._c.detach()
            self._gathers = len(c) * dist.world(group) < c.shape[1]
            if self._gathers:
                self._coming = dist.start_gather_rows(c, group)
            else:
                sums = c.sum(dim=0, keepdim=True)
                self._coming = dist.start_sum(torch.cat([c.T @ c, sums]), group)

    def value(self) -> Tensor:
        """Return the loss; once, since a prior may continue from step to step."""
        loss = _OfColumns if self._gathers else _OfProducts
        with _products_of(self._c, self._half):
            came = self._coming.wait()
            log_prior = None if self._prior is None else self._log_prior(self._prior, came)
            return loss.apply(self._c, came, *self._settings, log_prior, self._group, self._half)

    def _log_prior(self, prior: Prior, came: Tensor) -> Tensor:
        """Return log π of both views, (2K,)."""
        half = self._c.shape[1] // 2
        if self._gathers:
            columns = came.flatten(0, 1)  # (N, 2K)
            sums, agreed = columns.sum(dim=0), (columns[:, :half] * columns[:, half:]).sum(dim=0)
        else:
            sums, agreed = came[-1], came[:-1].diagonal(half)
        images = len(self._c) * dist.world(self._group)
        return prior((sums[:half] + sums[half:]) / (2 * images), agreed).to(came.dtype).repeat(2)


@contextmanager
def _products_of(c: Tensor, half: bool) -> Iterator[None]:
    """Take products out of an autocast: of float32, whose operands a GPU may round where `half`."""
    matmul = torch.backends.cuda.matmul  # see `device.float32_products` about its names
    before = matmul.allow_tf32
    with torch.autocast(c.device.type, enabled=False):
        try:
            if half and c.is_cuda:
                matmul.allow_tf32 = True
            yield
        finally:
            if half and c.is_cuda:
                matmul.allow_tf32 = before


def _in_full(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a backward pass to the products of its forward pass, whatever it is called under."""

    @wraps(backward)
    def call(ctx: Any, *gradients: Tensor) -> Any:
        with _products_of(gradients[0], ctx.half):
            return backward(ctx, *gradients)

    return call


class _OfProducts(torch.autograd.Function):
    """The loss of C (n, 2K) from the global ``[CᵀC; column sums]`` (2K + 1, 2K)."""

    @staticmethod
    def forward(
        ctx: Any,
        c: Tensor,
        summed: Tensor,
        temperature: float,
        entropy_weight: float,
        log_prior: Tensor | None,
        group: ProcessGroup | None,
        rounded: bool,
    ) -> Tensor:
        ctx.half = rounded
        images = len(c) * dist.world(group)
        gram, means = summed[:-1], summed[-1] / images
        lengths = gram.diagonal().clamp_min(EPSILON**2).sqrt()
        lse = torch.empty_like(means)
        for rows, similarity in _strips(gram, lengths, temperature):
            lse[rows] = torch.logsumexp(similarity, dim=1)
        half = len(gram) // 2
        positive = gram.diagonal(half) / (lengths[:half] * lengths[half:]) / temperature
        ctx.save_for_backward(c, summed, lengths, lse, log_prior)
        ctx.temperature, ctx.entropy_weight = temperature, entropy_weight
        ctx.images, ctx.world = images, dist.world(group)
        entropy, cross = _negative_entropy(means), _cross_entropy(means, log_prior)
        return lse.mean() - positive.mean() + entropy_weight * entropy + entropy_weight * cross

    @staticmethod
    @_in_full
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        c, summed, lengths, lse, log_prior = ctx.saved_tensors
        gram, means = summed[:-1], summed[-1] / ctx.images
        count, half = len(gram), len(gram) // 2
        # With Ĉ the columns of unit length, the derivative to C is (Ĉ A − Ĉ diag(ĉ·Ĉ A)) / length,
        # where A_ik = (e^{S_ik − lse_i} + e^{S_ik − lse_k} − 2 [k = p(i)]) / (2K τ) is symmetric.
        unit = c / lengths
        pulled, along = torch.zeros_like(c), torch.empty_like(lengths)
        for rows, similarity in _strips(gram, lengths, ctx.temperature):
            weights = torch.exp(similarity - lse[rows, None])
            weights += torch.exp(similarity - lse)
            places = torch.arange(rows.start, rows.stop, device=c.device)
            weights[places - rows.start, (places + half) % count] -= 2
            pulled[:, rows] = unit @ weights.T
            # ĉ_i · (Ĉ A)_i over the whole batch is Σ_k A_ik ĉ_i·ĉ_k.
            similarity.diagonal(rows.start).fill_(0)
            along[rows] = (weights * similarity).sum(dim=1) * ctx.temperature
        # A column shorter than EPSILON has the length EPSILON, whatever it is: no derivative through its length.
        along *= gram.diagonal() > EPSILON**2
        gradient = (pulled - unit * along) / (lengths * (count * ctx.temperature))
        gradient += _entropy_gradient(means, log_prior) * ctx.entropy_weight / ctx.images
        return gradient * (gradients[0] * ctx.world), None, None, None, None, None, None


class _OfColumns(torch.autograd.Function):
    """The loss of C (n, 2K) from the rows of all ranks (W, n, 2K)."""

    @staticmethod
    def forward(
        ctx: Any,
        c: Tensor,
        gathered: Tensor,
        temperature: float,
        entropy_weight: float,
        log_prior: Tensor | None,
        group: ProcessGroup | None,
        rounded: bool,
    ) -> Tensor:
        ctx.half = rounded
        columns = gathered.flatten(0, 1).T  # (2K, N)
        lengths = columns.norm(dim=1)
        rows = columns / lengths.clamp_min(EPSILON)[:, None]
        sums = RowSums(rows, temperature, keep=ctx.needs_input_grad[0])
        sums.add_own()
        lse, ctx.kept = sums.log(), sums.kept
        del sums
        half = len(rows) // 2
        positive = (rows[:half] * rows[half:]).sum(dim=1) / temperature
        means = columns.mean(dim=1)
        first = dist.rank(group) * len(c)
        ctx.save_for_backward(rows, lengths, lse, means, log_prior)
        ctx.temperature, ctx.entropy_weight = temperature, entropy_weight
        ctx.own, ctx.world = slice(first, first + len(c)), dist.world(group)
        entropy, cross = _negative_entropy(means), _cross_entropy(means, log_prior)
        return lse.mean() - positive.mean() + entropy_weight * entropy + entropy_weight * cross

    @staticmethod
    @_in_full
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        rows, lengths, lse, means, log_prior = ctx.saved_tensors
        count, half = len(rows), len(rows) // 2
        pulls = RowPulls(rows, lse, ctx.temperature, kept=ctx.kept)
        ctx.kept = None
        pulls.add_own()
        pulled = pulls.total().sub_(rows.roll(half, dims=0), alpha=2)
        del pulls
        along = (pulled * rows).sum(dim=1) * (lengths > EPSILON)
        gradient = pulled[:, ctx.own] - rows[:, ctx.own] * along[:, None]
        gradient /= (lengths.clamp_min(EPSILON) * (count * ctx.temperature))[:, None]
        gradient += (_entropy_gradient(means, log_prior) * ctx.entropy_weight / rows.shape[1])[:, None]
        return gradient.T * (gradients[0] * ctx.world), None, None, None, None, None, None


@alike
def _strips(gram: Tensor, lengths: Tensor, temperature: float) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, S of these rows against all columns) with −inf where a column meets itself."""
    step = max(1, STRIP // len(gram))
    for start in range(0, len(gram), step):
        rows = slice(start, min(start + step, len(gram)))
        similarity = gram[rows] / (lengths[rows, None] * temperature)
        similarity /= lengths
        similarity.diagonal(start).fill_(-torch.inf)
        yield rows, similarity


def _negative_entropy(means: Tensor) -> Tensor:
    """Return Σ q log q, with 0 log 0 = 0."""
    return (means * means.clamp_min(torch.finfo(means.dtype).tiny).log()).sum()


def _cross_entropy(means: Tensor, log_prior: Tensor | None) -> Tensor | float:
    """Return −Σ q log π of both views; of even sizes 2 log K, whatever q is."""
    return 2 * math.log(len(means) // 2) if log_prior is None else -(means * log_prior).sum()


def _entropy_gradient(means: Tensor, log_prior: Tensor | None) -> Tensor:
    """Return the derivative of both, log q + 1 − log π, finite where q is 0; of even sizes log π is left out."""
    gradient = means.clamp_min(torch.finfo(means.dtype).tiny).log() + 1
    return gradient if log_prior is None else gradient - log_prior
