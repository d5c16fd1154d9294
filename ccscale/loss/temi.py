"""TEMI's loss over the global batch (Adaloglou et al., "Exploring the limits of deep image clustering using
pretrained models", BMVC 2023, section 3).

For each of H heads the student's assignments q_s and the teacher's q_t of the two views x, x' of an image::

    l(x, x') = − w(x, x') log Σ_c (q_s(c|x) q_t(c|x'))^β / q_t(c)
    w(x, x') = mean over heads of Σ_c q_t(c|x) q_t(c|x')

The loss is the mean over heads, images, and both orders of the views. The prior q_t(c) is a moving average over
steps of the teacher's assignments of all views of the global batch, including those of this step::

    prior <- m prior + (1 − m) mean of q_t

The ranks sum ΣK numbers for it, and one for the loss. The backward pass communicates nothing: an image's term
depends only on its own rank, since no gradient flows to the teacher.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist
from ccscale.loss.inputs import check_inputs
from ccscale.loss.over_ranks import mean_over_ranks

EPSILON = 1e-12  # an assignment that is smaller counts as this one: its logarithm has a finite gradient


def temi_loss(
    heads: Sequence[Tensor],
    targets: Sequence[Tensor],
    prior: Tensor,
    beta: float = 0.6,
    prior_decay: float = 0.9,
    group: ProcessGroup | None = None,
    check: bool = True,
) -> Tensor:
    """Return TEMI's loss of the global batch, and move the prior on.

    Parameters
    ----------
    heads : sequence of Tensor
        This rank's assignments by each head, (2n, K), view a first, rows that sum to 1; n the same on all ranks. K
        may differ between heads: those of one K lie together, and weigh their images independently.
    targets : sequence of Tensor
        The teacher's, of the same shapes.
    prior : Tensor
        (ΣK,): the teacher's mean assignments by each head, one behind the other; changed in place.
    beta : float, default 0.6
        The paper's exponent.
    prior_decay : float, default 0.9
        How much of the prior stays in a step.
    group : ProcessGroup, optional
        The ranks whose batches make up the global batch; by default all.
    check : bool, default True
        Compare the ranks' shapes first, by a small collective call; see `instance_loss`.

    Returns
    -------
    Tensor
        The loss over the N = nW images, a scalar in float32 (float64 for float64 inputs), the same on all ranks.
        Its gradient to `heads` is W times the derivative; see `ccscale.loss`.

    Raises
    ------
    ValueError
        If shapes or types differ, on this rank or between ranks.
    """
    return TemiLoss(heads, targets, prior, beta, prior_decay, group, check).value()


class TemiLoss:
    """The loss in two steps: what it needs of the other ranks is sent for at once, and `value` waits for it.

    Parameters are those of `temi_loss`.
    """

    def __init__(
        self,
        heads: Sequence[Tensor],
        targets: Sequence[Tensor],
        prior: Tensor,
        beta: float = 0.6,
        prior_decay: float = 0.9,
        group: ProcessGroup | None = None,
        check: bool = True,
    ) -> None:
        for p, q in zip(heads, targets, strict=True):
            check_inputs("a head's and the teacher's assignments", p, q, 2, beta, group, check)
        self._heads, self._targets, self._prior = heads, [q.detach() for q in targets], prior
        self._beta, self._decay, self._group = beta, prior_decay, group
        self._coming = dist.start_sum(torch.cat([q.sum(dim=0) for q in self._targets]), group)

    def value(self) -> Tensor:
        """Return the loss, and move the prior on; once."""
        views = len(self._heads[0]) * dist.world(self._group)
        self._prior.lerp_(self._coming.wait().to(self._prior.dtype) / views, 1 - self._decay)
        with torch.autocast(self._prior.device.type, enabled=False):
            parts = [head_losses(p, q, prior, self._beta) for p, q, prior in self._by_clusters()]
            own: Tensor = torch.cat(parts).mean()
        return mean_over_ranks(own, self._group)

    def _by_clusters(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (H, 2n, K) of the student and of the teacher, and (H, K) of the prior, of the heads of each K."""
        widths = [p.shape[1] for p in self._heads]
        priors = self._prior.split(widths)
        for k in dict.fromkeys(widths):
            of_k = [number for number, width in enumerate(widths) if width == k]
            kinds: tuple[Sequence[Tensor], ...] = self._heads, self._targets, priors
            student, teacher, prior = (torch.stack([kind[number] for number in of_k]) for kind in kinds)
            yield student, teacher, prior


def head_losses(p: Tensor, q: Tensor, prior: Tensor, beta: float = 0.6) -> Tensor:
    """Return the loss of each head over the images available.

    Parameters
    ----------
    p, q
        The student's and the teacher's assignments (H, 2n, K), view a first.
    prior
        The teacher's mean assignments (H, K).
    beta
        The paper's exponent.

    Returns
    -------
    Tensor
        (H,).
    """
    other = q.roll(q.shape[1] // 2, dims=1)  # of the image's other view
    weight = (q * other).sum(dim=2).mean(dim=0)  # (2n,)
    pull = other.pow(beta) / prior.clamp_min(EPSILON)[:, None]
    return -(weight * (p.clamp_min(EPSILON).pow(beta) * pull).sum(dim=2).log()).mean(dim=1)
