"""Runs whose epochs have two phases, as STL-10's: real processes, stopped in either phase and gone on with."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import make_images, small_settings, write_config
from runs import BOUNDS, SAME, difference, steps, train

from ccscale.cli.main import main
from ccscale.data.conversion.shards import make_shards
from ccscale.data.sources.kinds import open_source

pytestmark = [pytest.mark.dist, pytest.mark.slow]

PHASES = [{"splits": ["unlabelled"], "losses": ["instance"]}, {"splits": ["train", "test"]}]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of three splits, one of them without labels."""
    root = tmp_path_factory.mktemp("splits")
    for split, count in (("unlabelled", 54), ("train", 40), ("test", 28)):
        make_images(root / "images" / split, count, classes=0 if split == "unlabelled" else 3)
    source = open_source("folder", str(root / "images"))
    make_shards(source, root / "shards", shard_samples=20, workers=1, progress=False)
    return root / "shards"


def settings(shards: Path, run: Path, **changes: Any) -> dict[str, Any]:
    return small_settings(
        shards,
        run,
        **{
            "data__phases": PHASES,
            "train__max_steps": 12,
            "train__save_every": 1,
            "evaluate": {"every": 1},
            **changes,
        },
    )


def test_a_phase_has_its_own_images_and_losses(splits: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, settings(splits, tmp_path / "run"))
    assert main(["train", str(config)]) == 0
    found = steps(tmp_path / "run")
    assert [record["phase"] for record in found] == ([1] * 3 + [2] * 4 + [1] * 3 + [2] * 2)
    assert [record["epoch"] for record in found] == [1] * 7 + [2] * 5
    for record in found:
        if record["phase"] == 1:
            assert record["cluster_loss"] is None
            assert record["loss"] == record["instance_loss"]
        else:
            assert record["loss"] == pytest.approx(record["instance_loss"] + record["cluster_loss"])
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [7, 12]
    assert evaluations[0]["splits"] == ["train", "test"]
    assert sum(evaluations[0]["sizes"]) == 68
    # The phases are part of what the run is; a loss that is off is, too.
    for override in ("data.phases=null", "loss.cluster_weight=0", "loss.instance_weight=2"):
        assert main(["train", str(config), override]) == 2


def test_a_loss_with_weight_0_is_off(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"data__phases": None, "loss": {"cluster_weight": 0.0}, "train__max_steps": 2}
    config = write_config(tmp_path, settings(splits, tmp_path / "run", **changes))
    assert main(["train", str(config)]) == 0
    assert "the cluster head is not trained" in capsys.readouterr().err
    assert all(record["cluster_loss"] is None and "phase" not in record for record in steps(tmp_path / "run"))


@pytest.fixture(scope="module")
def unbroken(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """The steps of an unbroken run on one rank, in float32 and in float64."""
    folder = tmp_path_factory.mktemp("unbroken")
    config = write_config(folder, settings(splits, folder / "unused", evaluate={}))
    for precision, zero in (("fp32", 0), ("fp64", 1)):
        overrides = [f"train.precision={precision}", f"train.zero={zero}"]
        train(config, 1, [*overrides, f"run={folder / precision}"])
    return {precision: steps(folder / precision) for precision in ("fp32", "fp64")}


@pytest.mark.parametrize(
    ("precision", "zero", "worlds", "after", "bound"),
    [
        # In the first phase of the first epoch, when the cluster head has not been trained yet; ...
        ("fp64", 2, (2, 1), 2, BOUNDS["fp64"]),
        # ... in the second phase; in the second epoch's first, which has moments of the head that it leaves alone.
        ("fp64", 1, (1, 2), 5, BOUNDS["fp64"]),
        ("fp32", 0, (1, 1), 9, SAME),
    ],
)
def test_a_phased_run_is_the_same_wherever_it_is_stopped(
    splits: Path,
    unbroken: dict[str, list[dict]],
    tmp_path: Path,
    precision: str,
    zero: int,
    worlds: tuple[int, int],
    after: int,
    bound: float,
) -> None:
    config = write_config(tmp_path, settings(splits, tmp_path / "run", evaluate={}))
    overrides = [f"train.precision={precision}", f"train.zero={zero}"]
    train(config, worlds[0], [*overrides, f"train.max_steps={after}"])
    assert len(steps(tmp_path / "run")) == after
    train(config, worlds[1], overrides)
    digests, worst = difference(steps(tmp_path / "run"), unbroken[precision])
    assert digests
    assert worst <= bound
