"""The same run at any number of ranks and workers, killed and gone on with: real processes, exact comparison."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import small_settings
from harness.tools import run_tool_here
from lives import Life, fork
from runs import BOUNDS, SAME, Trial, difference, run_trial, steps, train

from ccscale.cli.main import main
from ccscale.train.log import RunLog

pytestmark = [pytest.mark.dist, pytest.mark.slow]

ZERO = {"fp32": 0, "fp64": 1}


@pytest.fixture(scope="module")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 steps, 9 an epoch; checkpoints after every 4."""
    folder = tmp_path_factory.mktemp("config")
    settings = small_settings(shards, folder / "unused", train__max_steps=14, train__save_every=4)
    (folder / "config.yaml").write_text(json.dumps(settings))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def unbroken(config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """The steps of an unbroken run on one rank, for each precision."""
    folder = tmp_path_factory.mktemp("unbroken")
    for precision, zero in ZERO.items():
        overrides = [f"train.precision={precision}", f"train.zero={zero}"]
        run_trial(config, folder / precision, Trial(1, 1), overrides)
    return {precision: steps(folder / precision) for precision in ZERO}


@pytest.mark.parametrize(
    ("precision", "trial", "bound"),
    [
        ("fp32", Trial(1, 0, killed_after=6, goes_on_at=1), SAME),
        ("fp32", Trial(2, 3), BOUNDS["fp32"]),
        ("fp32", Trial(2, 1, killed_after=11, goes_on_at=1), BOUNDS["fp32"]),
        ("fp64", Trial(2, 0), BOUNDS["fp64"]),
        ("fp64", Trial(1, 0, killed_after=6, goes_on_at=2), BOUNDS["fp64"]),
    ],
    ids=str,
)
def test_a_run_is_the_same(
    config: Path, unbroken: dict[str, list[dict]], tmp_path: Path, precision: str, trial: Trial, bound: float
) -> None:
    overrides = [f"train.precision={precision}", f"train.zero={ZERO[precision]}"]
    run_trial(config, tmp_path / "run", trial, overrides)
    digests, worst = difference(steps(tmp_path / "run"), unbroken[precision])
    assert digests
    assert worst <= bound


def slow_steps() -> None:
    """Let each step take a second more, so that a signal meets a run before its end on a busy machine, too."""
    note = RunLog.step

    def slow(log: RunLog, record: Any) -> Any:
        time.sleep(1)
        return note(log, record)

    RunLog.step = slow  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_at_the_end_of_the_step_and_the_run_goes_on_exactly_there(
    config: Path,
    unbroken: dict[str, list[dict]],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    run = tmp_path / "run"
    overrides = [f"run={run}", "data.workers=1", "train.save_every=1000"]
    life = Life(fork(["train", str(config), *overrides], slow_steps))
    while life.code() is None and len(steps(run)) < 6:
        time.sleep(0.02)
    (process,) = life.groups
    os.killpg(process, number)  # the loader's worker gets it too, as from a job scheduler
    os.kill(process, number)
    assert life.wait(120)
    said = life.said()
    assert life.code() == 75, said
    done = len(steps(run))
    assert 6 <= done < 14
    assert f"stopped on {number.name} at step {done} of 14, saved" in said
    assert (run / "checkpoints" / f"step-{done:08d}" / "COMMIT.json").exists()
    assert f"going on from step {done} of 14" in train(config, 1, overrides)
    assert difference(steps(run), unbroken["fp32"]) == (True, SAME)


def test_real_photographs(tiny_imagenet: Path, tmp_path: Path) -> None:
    """Tiny-ImageNet's 16 classes through make, verify and train; tools/faults/same_run.py does more of it."""
    shards = tmp_path / "shards"
    assert main(["shards", "make", "tiny-imagenet", str(tiny_imagenet), str(shards), "--workers", "1"]) == 0
    assert main(["shards", "verify", str(shards), "--workers", "1"]) == 0
    settings = small_settings(shards, tmp_path / "unused", train__max_steps=16)  # 12 an epoch
    settings["evaluate"] = {"splits": ["test"]}  # 20 images
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    overrides = ["train.precision=fp64", "train.zero=1"]
    found = []
    for number, trial in enumerate((Trial(1, 1), Trial(2, 3))):
        run_trial(tmp_path / "config.yaml", tmp_path / str(number), trial, overrides)
        found.append(steps(tmp_path / str(number)))
    digests, worst = difference(found[1], found[0])
    assert digests
    assert len(found[0]) == 16
    assert worst <= BOUNDS["fp64"]


@pytest.mark.parametrize(
    ("cases", "leg", "ranks"),
    [(["fp64:1"], 6, (2, 1, 4, 2)), (["fp32:0", "fp32:1", "fp32:2"], 4, (2, 1, 2))],
    ids=["in float64", "in float32"],
)
def test_a_run_that_changes_its_number_of_ranks_goes_on_as_it_was(
    shards: Path, cases: list[str], leg: int, ranks: tuple[int, ...]
) -> None:
    size = ["--backbone", "test_resnet", "--size", "16", "--batch", "16", "--clusters", "4"]
    options = [option for case in cases for option in ("--case", case)]
    command = [str(shards), "--change", *map(str, ranks), *size, "--steps", str(leg), *options]
    done = run_tool_here("faults/same_run.py", *command, "--no-alone", "--json")
    assert done.code == 0, done.out + done.err
    legs = json.loads(done.out)["rows"]
    assert [(one["case"], one["ranks"]) for one in legs] == [(case, n) for case in cases for n in ranks]
    for number, one in enumerate(legs):
        first = number % len(ranks) * leg
        assert one["what"].startswith(f"steps {first + 1} to {first + leg}, ")
        assert one["digests"]
        assert one["worst"] <= (0 if first == 0 else {"fp64": 1e-8, "fp32": 1e-3}[one["case"][:4]])
        assert one["converted"] == (first > 0 and not one["case"].endswith(":0"))
