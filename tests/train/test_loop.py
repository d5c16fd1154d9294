"""What the loop does between two steps, alike on all ranks."""

import weakref
from typing import Any

import pytest
import torch
from conftest import small_settings
from harness.ranks import run_ranks

from ccscale.config.file import parse_config
from ccscale.engine.guard import SkippedSteps
from ccscale.model.heads import InstanceHead
from ccscale.train.loop import Outcome, Trainer
from ccscale.train.train import train_run


def judged_steps(rank: int, settings: dict[str, Any]) -> list[list[int]]:
    """Train with a third step that is not finite; return the steps that are judged together."""
    forward, judge = InstanceHead.forward, SkippedSteps.judge
    calls, judged = [], []

    def broken(head: InstanceHead, h: torch.Tensor) -> torch.Tensor:
        calls.append(head.training)
        return forward(head, h) * (torch.nan if head.training and sum(calls) == 3 else 1)

    def noted(skipped: SkippedSteps) -> None:
        if skipped._pending:
            judged.append([record["step"] for record, _ in skipped._pending])
        judge(skipped)

    InstanceHead.forward, SkippedSteps.judge = broken, noted  # type: ignore[method-assign]
    assert train_run(parse_config(settings)).finished
    return judged


@pytest.mark.dist
def test_skipped_steps_are_judged_at_the_same_moments_on_all_ranks(shards, tmp_path):
    """When the log is due; after the first step and ten more, which are timed; before an evaluation or a save."""
    settings = small_settings(
        shards,
        tmp_path / "run",
        train__log_every=5,
        evaluate={"every": 1},
        train__max_steps=18,
    )
    first, second = run_ranks(2, judged_steps, settings)
    assert first == second == [
        [1], [2, 3, 4, 5, 6], [7, 8, 9], [10, 11], [12, 13, 14, 15, 16], [17, 18]
    ]  # fmt: skip


def test_a_trainer_is_gone_when_it_has_trained(shards, tmp_path, monkeypatch):
    """It holds the network, the optimizer and the loader: none waits for Python's garbage collection."""
    trainers, run = [], Trainer.run

    def noted(trainer: Trainer) -> Outcome:
        trainers.append(weakref.ref(trainer))
        return run(trainer)

    monkeypatch.setattr(Trainer, "run", noted)
    assert train_run(parse_config(small_settings(shards, tmp_path / "run", train__max_steps=1))).finished
    assert [trainer() for trainer in trainers] == [None]
