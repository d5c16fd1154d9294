"""On a GPU: steps, runs, checkpoints, evaluation, features. `CCSCALE_GPU_DRY=1` runs them on a CPU.

In float64 a GPU gives what a CPU gives; so what differs there is wrong, and not rounding.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import small_settings
from harness.steps import TEMI, batch_of, config_of, network_of
from harness.tools import run_tool
from torch import Tensor

import ccscale
from ccscale.cli.main import main
from ccscale.config.file import parse_config
from ccscale.engine.build import build_engine
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.feed import on_device
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

CASES: dict[str, dict[str, Any]] = {
    "zero 1": {},
    "zero 2": {"zero": 2},
    "clip": {"clip": 0.1},
    "zero 2 clip": {"zero": 2, "clip": 0.1},
    "micro-batches": {"micro_batch": 4},
    "average": {"ema": 0.9},
    "temi": TEMI,
}
"""ZeRO 0 has no float64."""


def taken(device: torch.device, precision: str, **settings: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Take three steps, once for all tests; return the losses and the weights."""
    return take_steps(device, precision, json.dumps(settings))


@cache
def take_steps(device: torch.device, precision: str, settings: str) -> tuple[list[float], dict[str, Tensor]]:
    case = {"micro_batch": None, "precision": precision, "device": device.type} | json.loads(settings)
    config = config_of("test_resnet", **case)
    with process_group(RankEnvironment(), device):
        network = network_of(config)
        stepper = Stepper(config, build_engine(config, network, device), device)
        found = [stepper.take(on_device(batch_of(config, step), device))[0].loss for step in range(3)]
        return [float(loss) for loss in found], {
            name: value.detach().cpu().double() for name, value in network.state_dict().items()
        }


@pytest.mark.gpu
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_steps_are_those_of_a_cpu(gpu: torch.device, settings: dict[str, Any]) -> None:
    here, there = taken(gpu, "fp64", **settings), taken(torch.device("cpu"), "fp64", **settings)
    assert here[0] == pytest.approx(there[0], rel=1e-9)
    for name, value in there[1].items():
        assert torch.allclose(here[1][name], value, rtol=1e-6, atol=1e-8), name


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 2e-3), ("bf16", 3e-2)])
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_other_precisions_lose_digits_alone(
    gpu: torch.device, precision: str, bound: float, zero: int
) -> None:
    exact = taken(torch.device("cpu"), "fp64")[0]
    assert taken(gpu, precision, zero=zero)[0] == pytest.approx(exact, rel=bound)


@pytest.mark.gpu
def test_phases_begin_one_after_the_other(gpu: torch.device) -> None:
    """A head that is not trained has no moments, and the layout of its weights is that of the others'."""
    config = config_of("test_resnet", None, zero=0, precision="bf16", device=gpu.type)
    with process_group(RankEnvironment(), gpu):
        stepper = Stepper(config, build_engine(config, network_of(config), gpu), gpu)
        for step, by in enumerate((("instance",), ("instance", "cluster"), ("cluster",))):
            losses, _ = stepper.take(on_device(batch_of(config, step), gpu), by)
            assert torch.isfinite(losses.loss)


@pytest.fixture(scope="module")
def unbroken(gpu: torch.device, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("gpu") / "run"
    train_run(parse_config(settings_of(gpu, shards, run), []))
    return run


def settings_of(gpu: torch.device, shards: Path, run: Path, **changes: Any) -> dict[str, Any]:
    """A run of six steps in float64, whose sums on a GPU may come in another order each time."""
    changes = {
        "train__device": gpu.type,
        "train__precision": "fp64",
        "train__zero": 1,
        "train__max_steps": 6,
    } | changes
    return small_settings(shards, run, **changes)


def losses_of(run: Path) -> list[float]:
    """Return the loss of each step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.gpu
def test_a_run_that_stopped_goes_on_as_if_it_had_not(
    gpu: torch.device, shards: Path, tmp_path: Path, unbroken: Path
) -> None:
    for most in (3, 6):
        train_run(parse_config(settings_of(gpu, shards, tmp_path / "run", train__max_steps=most), []))
    assert len(losses_of(unbroken)) == 6
    assert losses_of(tmp_path / "run") == pytest.approx(losses_of(unbroken), rel=1e-9)


@pytest.mark.gpu
def test_a_run_on_a_gpu_goes_on_on_a_cpu(
    gpu: torch.device, shards: Path, tmp_path: Path, unbroken: Path
) -> None:
    run = tmp_path / "run"
    train_run(parse_config(settings_of(gpu, shards, run, train__max_steps=3), []))
    train_run(parse_config(settings_of(torch.device("cpu"), shards, run), []))
    assert losses_of(run) == pytest.approx(losses_of(unbroken), rel=1e-9)


@pytest.mark.gpu
def test_scores_and_labels_are_those_of_a_cpu(
    gpu: torch.device, shards: Path, tmp_path: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for device in (gpu.type, "cpu"):
        capsys.readouterr()
        assert main(["evaluate", str(unbroken), "--device", device, "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)
        table = tmp_path / f"{device}.csv"
        predicted = ["predict", str(unbroken), "--shards", str(shards), "--device", device]
        assert main([*predicted, "--out", str(table)]) == 0
        found.append(([scores[name] for name in ("acc", "nmi", "ari")], table.read_text().splitlines()))
    assert found[0][0] == found[1][0]
    labels = [[line.split(",")[1] for line in lines] for _, lines in found]
    assert labels[0] == labels[1]


@pytest.mark.gpu
def test_features_are_those_of_a_cpu(gpu: torch.device, shards: Path, tmp_path: Path, unbroken: Path) -> None:
    for device in ("cpu", gpu.type):
        folder = str(tmp_path / device)
        command = ["embed", str(shards), folder, "--run", str(unbroken), "--device", device, "--views", "1"]
        assert main(command) == 0
    here, there = (
        np.asarray(ccscale.open_features(tmp_path / device).array(), dtype=np.float32)
        for device in (gpu.type, "cpu")
    )
    assert here == pytest.approx(there, abs=2e-3)


@pytest.mark.gpu
def test_the_estimator_fits_and_predicts(gpu: torch.device) -> None:
    images = np.random.default_rng(0).integers(0, 256, (48, 24, 24, 3), dtype=np.uint8)
    estimator = ccscale.ContrastiveClusteringEstimator(
        3, backbone="test_resnet", size=16, epochs=2, batch_size=16, device=gpu.type, random_state=0
    )
    assert (estimator.fit(images).labels_ == estimator.predict(images)).all()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="they run on the GPU")
def test_they_run_dry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "dry.py"
    script.write_text("import sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))")
    monkeypatch.setenv("CCSCALE_GPU_DRY", "1")
    done = run_tool(script, "-q", "-m", "gpu", "-p", "no:cacheprovider", __file__)
    assert done.code == 0, done.out[-3000:]
    assert " skipped" not in done.out.splitlines()[-1]
