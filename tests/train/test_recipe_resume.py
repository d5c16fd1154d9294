"""A run by a recipe of today is bit-identical wherever it is stopped: in its warm-up, in its decay."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_settings
from harness.ranks import run_ranks

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.assign import measure
from ccscale.model.export import load
from ccscale.preempt import StopRequest
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

STEPS = 12  # of 9 an epoch; the first 4 warm up
RECIPES: dict[str, dict[str, Any]] = {
    "cosine": {"schedule": "cosine", "optimizer": "adamw", "layer_decay": 0.7, "ema": 0.9},
    "wsd": {"schedule": "wsd", "decay_epochs": 0.5, "zero": 1, "ema": 0.5},
}


def settings_of(shards: Path, run: Path, recipe: str) -> dict[str, Any]:
    settings = small_settings(shards, run, evaluate={"every": 1})
    common = {
        "max_steps": STEPS,
        "warmup_epochs": 4 / 9,
        "weight_decay": 0.1,
        "backbone_lr": 0.5,
        "final_lr": 0.1,
    }
    settings["train"] |= common | RECIPES[recipe]
    return settings


def traces(run: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the served weights and the log, but for what the clock says."""
    weights = (run / f"checkpoints/step-{STEPS:08d}/model.safetensors").read_bytes()
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    timed = ("time", "images_per_second", "data_wait")
    return weights, [{key: value for key, value in line.items() if key not in timed} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_goes_on_where_it_was(
    shards: Path, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after step 2, in the warm-up, and after step 10, in the decay."""
    assert train_run(parse_config(settings_of(shards, tmp_path / "unbroken", recipe))).finished
    take = Stepper.take

    def take_and_stop(self: Stepper, batch: Any, *arguments: Any) -> Any:
        if batch.step in (1, 9):
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, batch, *arguments)

    monkeypatch.setattr(Stepper, "take", take_and_stop)
    broken = parse_config(settings_of(shards, tmp_path / "broken", recipe))
    reached = [train_run(broken).step for _ in range(3)]
    assert reached == [2, 10, STEPS]
    found, expected = traces(tmp_path / "broken"), traces(tmp_path / "unbroken")
    assert found == expected
    rates = [line["lr"] for line in found[1] if line["kind"] == "step"]
    assert rates[:5] == [3e-4 * part for part in (0.25, 0.5, 0.75, 1, 1)]
    assert rates[-1] < 2e-4
    check_serving(broken)


def check_serving(config: Config) -> None:
    """Check that it is the averages that were evaluated and are exported, and not what is trained."""
    folder = config.run_folder / f"checkpoints/step-{STEPS:08d}"
    saved = torch.load(folder / "deepspeed/mp_rank_00_model_states.pt", weights_only=False)["module"]
    network = load(folder)
    name = "cluster_head.layers.2.weight"
    weights = network.state_dict()[name]
    assert torch.equal(weights, saved[f"average.copy.{name}"])
    assert not torch.equal(weights, saved[name])
    manifest = Manifest.load(config.data.shards)
    (tally,) = run_ranks(1, measured, config, manifest)
    lines = map(json.loads, (config.run_folder / "metrics.jsonl").read_text().splitlines())
    evaluation = [line for line in lines if line["kind"] == "evaluation"][-1]
    assert evaluation["confidence"] == pytest.approx(tally["confidence"], rel=1e-6)
    assert evaluation["sizes"] == tally["sizes"]


def measured(rank: int, config: Config, manifest: Manifest) -> dict[str, Any]:
    network = load(config.run_folder / f"checkpoints/step-{STEPS:08d}")
    tally = measure(network, manifest, config.evaluated_splits, config, 0, StopRequest(), progress=False)
    assert tally is not None
    return tally.summary()
