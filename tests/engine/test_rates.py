"""The rate at every step is that of the closed form, and of torch's own schedulers."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from ccscale.config import Train
from ccscale.engine.rates import Rates, averaging

EPOCH = 7  # steps


def rates(epochs: int = 10, steps: int | None = None, **train: Any) -> list[float]:
    """Return the rate at each step."""
    whole = epochs * EPOCH
    of_run = Rates.of(Train(epochs=epochs, **{"lr": 0.01, **train}), EPOCH, steps or whole)
    return [of_run.at(step) for step in range(steps or whole)]


@pytest.mark.parametrize(("epochs", "warmup"), [(2.0, 14), (0.5, 4), (1 / 7, 1)])
def test_warm_up_rises_in_equal_parts_and_reaches_the_rate(epochs: float, warmup: int) -> None:
    for schedule in ("constant", "cosine", "wsd"):
        found = rates(schedule=schedule, warmup_epochs=epochs)[:warmup]
        assert found == pytest.approx([0.01 * (t + 1) / warmup for t in range(warmup)], rel=1e-15)
        assert found[-1] == 0.01


def test_constant_is_the_rate_itself() -> None:
    assert set(rates()) == {0.01}
    assert set(rates(warmup_epochs=1)[7:]) == {0.01}


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("warmup", [0, 3])
def test_cosine_at_every_step(final: float, warmup: int) -> None:
    found = rates(schedule="cosine", warmup_epochs=warmup, final_lr=final)
    w, total = warmup * EPOCH, 70
    for t in range(w, total):
        angle = math.pi * (t - w) / (total - w)
        assert found[t] == pytest.approx(
            0.01 * (final + (1 - final) * 0.5 * (1 + math.cos(angle))), rel=1e-12
        )
    torch_s = of_torch(lr_scheduler.CosineAnnealingLR, total - w, T_max=total - w, eta_min=0.01 * final)
    assert found[w:] == pytest.approx(torch_s, rel=1e-9)


@pytest.mark.parametrize(("epochs", "decay"), [(None, 14), (3.0, 21), (0.5, 4)])
def test_wsd_at_every_step(epochs: float | None, decay: int) -> None:
    found = rates(schedule="wsd", warmup_epochs=2, decay_epochs=epochs, final_lr=0.1)
    assert set(found[14 : 70 - decay]) == {0.01}
    for t in range(70 - decay, 70):
        share = (t - (70 - decay)) / decay
        assert found[t] == pytest.approx(0.01 * (1 - share * 0.9), rel=1e-12)
    torch_s = of_torch(lr_scheduler.LinearLR, decay, start_factor=1.0, end_factor=0.1, total_iters=decay)
    assert found[70 - decay :] == pytest.approx(torch_s, rel=1e-9)


def test_a_run_that_max_steps_cuts_short_ends_where_its_rate_does() -> None:
    assert rates(steps=20, schedule="cosine")[-1] == pytest.approx(
        0.01 * (1 + math.cos(math.pi * 19 / 20)) / 2
    )
    assert rates(steps=10, schedule="wsd", decay_epochs=5)[-1] == pytest.approx(0.001)
    # It is all warm-up: there is nothing left to go down in.
    assert rates(steps=5, schedule="wsd", warmup_epochs=2) == pytest.approx(
        [0.01 * t / 14 for t in range(1, 6)]
    )
    assert rates(steps=15, schedule="cosine", warmup_epochs=2)[-1] == 0.01


def test_the_average_is_a_plain_mean_at_first() -> None:
    assert [averaging(0.9, step) for step in (0, 1, 80, 81, 1000)] == [0.1, 2 / 11, 0.9, 0.9, 0.9]


def of_torch(scheduler: Any, steps: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.01)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step is taken
        of_run = scheduler(optimizer, **options)
        for _ in range(steps):
            found.append(of_run.get_last_lr()[0])
            of_run.step()
    return found
