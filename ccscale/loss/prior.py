"""Priors of cluster sizes, from which the entropy term of the cluster loss is the divergence.

With q the column mean of a view's assignments, the term is ``Σ_views Σ_k q_k (log q_k − log π_k)``, KL(q ‖ π):

    uniform    π_k = 1/K, which makes it the paper's Σ q log q + log K
    power      π_k = r_k^−α / Σ_r r^−α, where r_k is the rank of cluster k by its size in the batch, 1 the largest
               ("PET-TURTLE: deep unsupervised support vector machines for imbalanced data clusters", IEEE Signal
               Processing Letters 33, 2026)
    estimated  π = (1 − ε) s + ε/K, where s is the moving average of the share of each cluster among what both views
               agree on, Σ_i p^a_ik p^b_ik, so confident images count more. It starts uniform, or with the sizes
               of the clusters that the heads start from. ε keeps clusters from being abandoned

A prior is called once per step with sums that the loss has anyway, so it needs no further communication; no
gradient flows through π.
"""

from collections.abc import Callable

import torch
from torch import Tensor

EVEN_PART = 0.1  # ε

Prior = Callable[[Tensor, Tensor], Tensor]
"""(Mean assignments of both views (K,), what both views agree on (K,), of the global batch) -> log π (K,)."""


def power_law(exponent: float) -> Prior:
    """Return the prior of sizes that fall by a power of their rank.

    Parameters
    ----------
    exponent
        α; 0 is even, 1 makes the largest of 10 clusters 10 times the smallest, 2 makes it 100 times.
    """

    def prior(sizes: Tensor, agreed: Tensor) -> Tensor:
        ranks = sizes.argsort(descending=True, stable=True).argsort()
        by_rank = torch.arange(1, len(sizes) + 1, dtype=sizes.dtype, device=sizes.device)
        return torch.log_softmax(-exponent * by_rank.log(), dim=0)[ranks]

    return prior


def estimated(shares: Tensor, decay: float) -> Prior:
    """Return the prior of the sizes that clusters have had so far.

    Parameters
    ----------
    shares
        (K,): s, changed in place.
    decay
        How much of it stays in a step.
    """

    def prior(sizes: Tensor, agreed: Tensor) -> Tensor:
        tiny = torch.finfo(agreed.dtype).tiny
        shares.lerp_((agreed / agreed.sum().clamp_min(tiny)).to(shares.dtype), 1 - decay)
        return torch.lerp(shares, torch.full_like(shares, 1 / len(shares)), EVEN_PART).log()

    return prior


def prior_of(kind: str, exponent: float, shares: Tensor | None = None, decay: float = 0.99) -> Prior | None:
    """Return the prior of a kind, as the config's section ``loss`` names them; None: even sizes, or no term at all.

    Parameters
    ----------
    kind
        ``uniform``, ``none``, ``power`` or ``estimated``.
    exponent
        Of `power_law`.
    shares, decay
        Of `estimated`.
    """
    if kind == "power":
        return power_law(exponent)
    if kind == "estimated":
        assert shares is not None
        return estimated(shares, decay)
    return None
