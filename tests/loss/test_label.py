"""The cross-entropy of labelled images beside torch's own, at W = 1, 2, 4 with other labels on each rank."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.ranks import run_ranks
from torch import Tensor

from ccscale.loss import label_loss

N, K = 16, 5
CASES = [(0.0, True), (0.1, True), (0.2, False)]
LABELS = {
    "some": torch.tensor(
        [0, 1, -1, 0, 2, -1, 0, 1, 1, 2, -1, -1, -1, 0, 0, 0]
    ),  # the third rank of 4 has one
    "none": torch.full((N,), -1),
}


def logits() -> Tensor:
    return 4 * torch.randn(N, K, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def on_rank(rank: int, world: int) -> list[tuple[float, Tensor]]:
    n, found = N // world, []
    for labels in LABELS.values():
        for smoothing, balance in CASES:
            x = logits()[rank * n : (rank + 1) * n].requires_grad_()
            loss = label_loss(x.softmax(dim=1), labels, smoothing, balance)
            loss.backward()
            found.append((loss.item(), x.grad / world))
    return found


@pytest.mark.dist
@pytest.mark.parametrize("world", [1, 4])
def test_it_is_torchs_over_the_global_batch(world: int) -> None:
    ranks: list[Any] = run_ranks(world, on_rank, world)
    case = 0
    for name, labels in LABELS.items():
        for smoothing, balance in CASES:
            x = logits().requires_grad_()
            has = labels >= 0
            counts = torch.bincount(labels[has], minlength=K)
            weight = (
                has.sum().double() / counts.clamp_min(1) if balance else torch.ones(K, dtype=torch.float64)
            )
            expected = torch.zeros((), dtype=torch.float64)
            if name == "some":
                # torch weighs the smoothing's part by each class: taken apart, as TCL has the weight of the image
                each = F.cross_entropy(x[has], labels[has], reduction="none", label_smoothing=smoothing)
                expected = (weight[labels[has]] * each).sum() / weight[labels[has]].sum()
                if not smoothing:
                    same = F.cross_entropy(x, labels, weight=weight, ignore_index=-1)
                    assert expected.item() == pytest.approx(same.item(), abs=1e-12)
                expected.backward()
            gradient = torch.zeros_like(x) if x.grad is None else x.grad
            for of in ranks:
                assert of[case][0] == pytest.approx(expected.item(), abs=1e-12)
            assert torch.cat([of[case][1] for of in ranks]).sub(gradient).abs().max() < 1e-12
            case += 1


def test_an_assignment_of_nothing_has_a_finite_gradient() -> None:
    x = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = label_loss(x.softmax(dim=1), torch.tensor([0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
