"""A step that is not finite changes nothing, is told with its rank, and too many of them end the run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_settings
from harness.ranks import run_ranks
from harness.steps import TEMI, batch_of, config_of, network_of
from torch import Tensor, nn

from ccscale.config.file import parse_config
from ccscale.engine.build import build_engine
from ccscale.engine.guard import NotFinite, SkippedSteps
from ccscale.model.export import load
from ccscale.model.heads import InstanceHead
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

N, SIZE = 12, 32
SPOILT = 2  # the step, of four


def spoil(module: nn.Module, how: str) -> Any:
    """Make the next forward pass, or the next backward pass, of a head not finite."""
    if how == "gradient":
        return module.register_full_backward_hook(lambda m, gi, go: tuple(g * torch.nan for g in gi))
    return module.register_forward_hook(lambda m, inputs, output: output * torch.nan)


def on_rank(
    rank: int, world: int, how: str, micro: bool, settings: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str], list[float]]:
    """Take four steps, the spoilt one twice: once not finite, because of the last rank, and once as it is."""
    config = config_of("test_resnet", 4 if micro else None, **settings)
    network = network_of(config)
    engine = build_engine(config, network, torch.device("cpu"))
    stepper = Stepper(config, engine, torch.device("cpu"))
    said: list[str] = []
    skipped, flags = SkippedSteps(1, said.append), []
    before = {}
    for step in range(4):
        if step == SPOILT and how != "nothing":
            before = {name: value.detach().clone() for name, value in network.state_dict().items()}
            head = network.cluster_head if how == "assignments" else network.instance_head
            hook = spoil(head, how) if rank == world - 1 else None
            losses, verdict = stepper.take(batch_of(config, step, rank, world))
            if hook is not None:
                hook.remove()
            skipped.note({"step": step, "skipped": verdict.skipped, **losses._asdict()}, verdict)
            flags.append(float(verdict.skipped))
            for name, value in network.state_dict().items():
                if not name.endswith("num_batches_tracked"):
                    assert torch.equal(value, before[name]), name
        losses, verdict = stepper.take(batch_of(config, step, rank, world))
        skipped.note({"step": step, "skipped": verdict.skipped, **losses._asdict()}, verdict)
        flags.append(float(verdict.skipped))
    skipped.judge()
    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return before, weights, said, flags


CASES = {
    1: [
        ("embeddings", False, {"zero": 0, "precision": "fp32"}),
        ("embeddings", True, {"zero": 1, **TEMI}),
    ],
    2: [
        ("embeddings", False, {"zero": 0, "precision": "fp32"}),
        ("assignments", False, {"zero": 1}),
        ("gradient", False, {"zero": 2, "precision": "fp32"}),
        ("embeddings", True, {"zero": 1, "ema": 0.5}),
        ("embeddings", False, {"zero": 1, "clip": 0.5}),
    ],
}


def all_cases(rank: int, world: int) -> list[Any]:
    return [
        (on_rank(rank, world, "nothing", micro, settings), on_rank(rank, world, how, micro, settings))
        for how, micro, settings in CASES[world]
    ]


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("world", CASES)
def test_a_skipped_step_leaves_no_trace(world: int) -> None:
    """Weights, moments, Adam's count and running statistics: the steps after it are as if it had not been."""
    for of_rank in run_ranks(world, all_cases, world):
        for (how, *_), (expected, found) in zip(CASES[world], of_rank, strict=True):
            _, weights, _, unbroken = expected
            before, same, said, flags = found
            assert unbroken == [0] * 4
            assert flags == [0, 0, 1, 0, 0]
            for name, value in weights.items():
                if not name.endswith("num_batches_tracked"):
                    assert torch.equal(value, same[name]), name
            assert any(not torch.equal(before[name], same[name]) for name in before)  # it went on
            (sentence,) = said
            if how == "gradient":
                assert sentence == f"skipped a step: a gradient of step {SPOILT} is not finite"
            else:
                loss = "cluster" if how == "assignments" else "instance"
                assert f"the {loss} loss of step {SPOILT} is nan" in sentence
                assert f"{how} that are not finite come from rank {world - 1}" in sentence


@pytest.mark.parametrize("limit", [1, 3])
def test_a_run_skips_some_and_ends_after_too_many(
    shards: Path,
    tmp_path: Path,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Steps 3 and 4 of 8 are not finite."""
    calls = 0
    forward = InstanceHead.forward

    def broken(self: InstanceHead, h: Tensor) -> Tensor:
        nonlocal calls
        calls += self.training
        return forward(self, h) * (torch.nan if self.training and calls in (3, 4) else 1)

    monkeypatch.setattr(InstanceHead, "forward", broken)
    config = parse_config(
        small_settings(
            shards,
            tmp_path / "run",
            train__max_steps=8,
            train__max_bad_steps=limit,
            train__log_every=3,
            train__save_every=2,
        )
    )
    if limit == 1:
        with pytest.raises(
            NotFinite, match=r"loss of step 4 is nan.*, and 1 steps before .* new run"
        ) as told:
            train_run(config)
        # What it advises can be done.
        advice = f"run=DIR train.lr=0.0001 train.start={config.run}"
        assert advice in str(told.value)
        monkeypatch.undo()
        changes = advice.replace("DIR", str(tmp_path / "again")).split()
        again = parse_config(config.model_dump(mode="json"), changes)
        assert train_run(again).finished
    else:
        assert train_run(config).finished
        weights = load(tmp_path / "run/checkpoints/step-00000008").state_dict()
        assert all(torch.isfinite(value).all() for value in weights.values())
    said = capfd.readouterr().err
    assert "skipped a step: the instance loss of step 3 is nan; embeddings that are not finite" in said
    assert ("skipped a step: the instance loss of step 4" in said) == (limit > 1)
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    of_steps = [record for record in records if record["kind"] == "step"]
    assert [record["step"] for record in of_steps if record["skipped"]] == [3, 4]
    assert [record["step"] for record in of_steps if record["loss"] is None] == [3, 4]
