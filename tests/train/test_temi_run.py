"""Runs with a teacher, or shares: stopped and gone on with, at another number of ranks too; what they leave."""

from pathlib import Path
from typing import Any

import pytest
from conftest import small_settings, write_config
from runs import BOUNDS, SAME, difference, steps, train
from safetensors.torch import load_file

HEADS = {
    "backbone": "test_resnet",
    "stem": "small",
    "clusters": [4, 3],
    "heads": 2,
    "head_width": 12,
    "head_activation": "gelu",
    "head_norm": "batch",
    "prototypes": 6,
    "head_temperature": 0.1,
}
TEMI, SHARES = {"objective": "temi", "teacher_decay": 0.5}, {"prior": "estimated"}
CASES = [
    (TEMI, "fp32", 0, (1, 1), SAME),
    (TEMI, "fp64", 1, (2, 1), BOUNDS["fp64"]),
    (SHARES, "fp64", 1, (2, 1), BOUNDS["fp64"]),
]


def settings(shards: Path, run: Path, loss: dict[str, Any]) -> dict[str, Any]:
    loss = {**loss, "instance_weight": 0.0}
    return small_settings(shards, run, model=HEADS, loss=loss, train__max_steps=6)


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize(("loss", "precision", "zero", "worlds", "bound"), CASES)
def test_a_run_goes_on_where_it_was(
    shards: Path,
    tmp_path: Path,
    loss: dict[str, Any],
    precision: str,
    zero: int,
    worlds: tuple[int, int],
    bound: float,
) -> None:
    config = write_config(tmp_path, settings(shards, tmp_path / "run", loss))
    overrides = [f"train.precision={precision}", f"train.zero={zero}"]
    train(config, 1, [*overrides, f"run={tmp_path / 'unbroken'}"])
    train(config, worlds[0], [*overrides, "train.max_steps=3"])
    train(config, worlds[1], overrides)
    assert {record["instance_loss"] for record in steps(tmp_path / "run")} == {None}
    digests, worst = difference(steps(tmp_path / "run"), steps(tmp_path / "unbroken"))
    assert digests
    assert worst <= bound
    names = []
    for run in ("run", "unbroken"):
        weights = load_file(tmp_path / run / "checkpoints" / "step-00000006" / "model.safetensors")
        names.append({name for name in weights if not name.startswith("backbone.")})
    assert names[0] == names[1]
    assert not any("teacher" in name or name == "shares" for name in names[0])
    assert "cluster_head.3.prototypes.weight" in names[0]
