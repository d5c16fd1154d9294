"""Priors of the cluster loss against plain autograd, at W = 1, 2, 4 with different data on each rank."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.ranks import run_ranks
from torch import Tensor, nn

from ccscale.config import Loss
from ccscale.loss import cluster_loss
from ccscale.loss.prior import EVEN_PART, estimated, power_law, prior_of

N, FEATURES, DECAY, STEPS, WEIGHT = 12, 7, 0.8, 2, 0.6
KINDS, WIDTHS = ("power", "estimated"), (4, 30)  # more columns than 12 images: these are gathered

Found = dict[tuple[str, int], tuple[list[float], Tensor, Tensor]]


def assignments(k: int) -> tuple[nn.Linear, list[Tensor]]:
    """Return a head, and the features of two steps (2 views, N images, features), float64."""
    torch.manual_seed(k)
    draw = torch.Generator().manual_seed(2)
    xs = [torch.randn(2, N, FEATURES, dtype=torch.float64, generator=draw) for _ in range(STEPS)]
    return nn.Linear(FEATURES, k, dtype=torch.float64), xs


def plain(p_a: Tensor, p_b: Tensor, kind: str, shares: Tensor) -> tuple[Tensor, Tensor]:
    """The formula on whole columns, a cluster at a time; the shares behind it."""
    k = p_a.shape[1]
    columns = F.normalize(torch.cat([p_a.T, p_b.T]), dim=1)
    similarity = (columns @ columns.T).fill_diagonal_(-torch.inf)
    loss = F.cross_entropy(similarity, torch.arange(2 * k).roll(k))
    sizes = (p_a + p_b).mean(dim=0).tolist()
    if kind == "power":
        ranks = [1 + sum(other > size for other in sizes) for size in sizes]
        pi = torch.tensor([rank**-0.5 for rank in ranks], dtype=torch.float64)
        pi = pi / pi.sum()
    else:
        agreed = torch.stack([p_a[:, c].detach() @ p_b[:, c].detach() for c in range(k)])
        shares = DECAY * shares + (1 - DECAY) * agreed / agreed.sum()
        pi = (1 - EVEN_PART) * shares + EVEN_PART / k
    for p in (p_a, p_b):
        loss = loss + WEIGHT * F.kl_div(pi.log(), p.mean(dim=0), reduction="sum")
    return loss, shares


def take(rank: int, world: int, formula: bool = False) -> Found:
    """Return the values of some steps, the gradient of their sum, the shares behind them."""
    found, mine = {}, slice(rank * N // world, (rank + 1) * N // world)
    for kind in KINDS:
        for k in WIDTHS:
            head, xs = assignments(k)
            shares = torch.full((k,), 1 / k, dtype=torch.float64)
            prior = power_law(0.5) if kind == "power" else estimated(shares, DECAY)
            values = []
            for x in xs:
                p_a, p_b = (3 * head(x[:, mine])).softmax(dim=2)
                if formula:
                    loss, shares = plain(p_a, p_b, kind, shares)
                else:
                    loss = cluster_loss(p_a, p_b, entropy_weight=WEIGHT, prior=prior)
                loss.backward()
                values.append(loss.item())
            assert head.weight.grad is not None
            found[kind, k] = values, head.weight.grad, shares
    return found


@pytest.mark.dist
@pytest.mark.parametrize("world", [1, 2, 4])
def test_value_and_averaged_gradients_are_the_global_loss(world: int) -> None:
    found: list[Any] = run_ranks(world, take, world)
    for case, (values, gradient, shares) in take(0, 1, formula=True).items():
        for of in found:
            assert of[case][0] == pytest.approx(values, abs=1e-10)
            assert (of[case][2] - shares).abs().max() < 1e-12
        average = torch.stack([of[case][1] for of in found]).mean(dim=0)
        assert (average - gradient).abs().max() < 1e-10
        assert gradient.abs().max() > 1e-4  # or the line above would say nothing


def test_sizes_of_the_prior_s_own_cost_nothing_and_even_ones_do() -> None:
    p = torch.eye(4)[torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3])]  # 8 : 4 : 2 : 1
    law = power_law(1.5)(p.mean(dim=0), p.sum(dim=0)).exp()
    torch.testing.assert_close(
        law, torch.tensor([1.0, 2**-1.5, 3**-1.5, 4**-1.5]) / sum(r**-1.5 for r in range(1, 5))
    )
    shares = p.mean(dim=0)
    like_them = estimated(shares.clone(), 1.0)
    even = torch.eye(4).repeat(4, 1)
    of_own, of_even = (float(cluster_loss(x, x, prior=like_them)) for x in (p, even))
    alone, even_alone = (float(cluster_loss(x, x, entropy_weight=0)) for x in (p, even))
    assert 0 <= of_own - alone < 0.03  # a tenth of the prior is even
    assert of_even - even_alone > 0.3


def test_a_cluster_without_an_image_has_a_finite_gradient_under_any_prior() -> None:
    p = torch.eye(4)[[0, 0, 0, 1]]
    for prior in (power_law(2.0), estimated(torch.tensor([1.0, 0, 0, 0]), 0.5)):
        x = p.clone().requires_grad_()
        loss = cluster_loss(x, p.roll(1, 0), prior=prior)
        loss.backward()
        assert x.grad is not None
        assert torch.isfinite(loss)
        assert torch.isfinite(x.grad).all()


def test_the_default_is_the_paper_s_term() -> None:
    p = torch.rand(9, 5, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    assert prior_of("uniform", 0.5) is prior_of("none", 0.5) is None
    assert (Loss().prior_weight, Loss(prior="none").prior_weight) == (1, 0)

    def even(sizes: Tensor, agreed: Tensor) -> Tensor:
        return torch.full_like(sizes, -math.log(5))

    assert float(cluster_loss(p, p, prior=even)) == pytest.approx(float(cluster_loss(p, p)), abs=1e-6)
