"""TEMI's loss against the formula on one process, at W = 1, 2, 4 with different data on each rank."""

from typing import Any

import pytest
import torch
from harness.ranks import run_ranks
from torch import Tensor, nn

from ccscale.loss import temi_loss

N, FEATURES, CLUSTERS, BETA, DECAY, STEPS = 12, 7, (4, 4, 3), 0.6, 0.9, 2

Found = tuple[list[float], list[Tensor], Tensor]


def assignments(seed: int) -> list[nn.Linear]:
    torch.manual_seed(seed)
    return [nn.Linear(FEATURES, k, dtype=torch.float64) for k in CLUSTERS]


def features(step: int) -> Tensor:
    """(2 views, N images, features), float64."""
    return torch.randn(2, N, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(step))


def soft(heads: list[nn.Linear], x: Tensor) -> list[Tensor]:
    return [(3 * head(x)).softmax(dim=1) for head in heads]


def plain(student: list[Tensor], teacher: list[Tensor], prior: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's formula, an image, a way and a head at a time; the prior behind the step, too."""
    means = torch.cat([q.mean(dim=0) for q in teacher])
    prior = DECAY * prior + (1 - DECAY) * means
    images, losses = len(student[0]) // 2, []
    for k in dict.fromkeys(CLUSTERS):
        of_k = [head for head, width in enumerate(CLUSTERS) if width == k]
        for i in range(2 * images):
            j = (i + images) % (2 * images)
            weight = sum(teacher[head][i] @ teacher[head][j] for head in of_k) / len(of_k)
            for head in of_k:
                own = prior.split(CLUSTERS)[head]
                inner = (student[head][i] * teacher[head][j]) ** BETA / own
                losses.append(-weight * inner.sum().log())
    return torch.stack(losses).mean(), prior


def take(rank: int, world: int, formula: bool = False) -> Found:
    """Return the values of some steps, the gradients of their sum, the prior behind them."""
    student, teacher = assignments(1), assignments(2)
    prior = torch.cat([torch.full((k,), 1 / k, dtype=torch.float64) for k in CLUSTERS])
    values, n = [], N // world
    for step in range(STEPS):
        x = features(step)[:, rank * n : (rank + 1) * n].flatten(0, 1)
        q = [found.detach() for found in soft(teacher, x)]
        if formula:
            loss, prior = plain(soft(student, x), q, prior)
        else:
            loss = temi_loss(soft(student, x), q, prior, BETA, DECAY)
        loss.backward()
        values.append(loss.item())
    return values, [p.grad for head in student for p in head.parameters() if p.grad is not None], prior


@pytest.mark.dist
@pytest.mark.parametrize("world", [1, 2, 4])
def test_value_and_averaged_gradients_are_the_global_loss(world: int) -> None:
    found: list[Any] = run_ranks(world, take, world)
    values, gradients, prior = take(0, 1, formula=True)
    assert values[0] != pytest.approx(values[1])
    for of in found:
        assert of[0] == pytest.approx(values, abs=1e-12)
        assert of[0] == found[0][0]  # bit for bit on all ranks
        assert (of[2] - prior).abs().max() < 1e-12
    for i, expected in enumerate(gradients):
        average = torch.stack([of[1][i] for of in found]).mean(dim=0)
        assert (average - expected).abs().max() < 1e-12
        assert expected.abs().max() > 1e-4  # or the line above would say nothing


def test_assignments_of_nothing_have_a_finite_gradient() -> None:
    p = torch.eye(4)[[0, 1, 2, 3]].requires_grad_()
    loss = temi_loss([p], [torch.eye(4)[[3, 2, 1, 0]]], torch.tensor([1.0, 0.0, 0.0, 0.0]))
    loss.backward()
    assert p.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(p.grad).all()


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="a head's and the teacher's assignments must both be"):
        temi_loss([torch.ones(4, 3)], [torch.ones(4, 2)], torch.ones(3))
