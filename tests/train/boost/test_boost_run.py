"""Runs with self-labelling on a feature store: stopped and killed, on other ranks, and made to fail."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import small_settings, write_config
from harness.stores import make_store
from runs import BOUNDS, Trial, difference, run_trial, steps
from safetensors.torch import load_file

from ccscale.checkpoint import choose, find
from ccscale.cli.main import main
from ccscale.config.file import parse_config
from ccscale.train.train import train_run

EPOCH = 6  # steps: 100 images in batches of 16
FIRST, BEGIN, STOP = (
    5 * EPOCH,
    6 * EPOCH,
    9 * EPOCH,
)  # of the self-labelling: it labels, it trains, it is done
WEIGHTS = f"checkpoints/step-{STOP:08d}/model.safetensors"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 100 images in four clusters that lie near each other, with three views beside the images as they are."""
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 4
    images = (3 * np.eye(4, 12)[labels] + 0.5 * rng.normal(size=(100, 12))).astype(np.float32)
    views = [images + 0.3 * rng.normal(size=images.shape).astype(np.float32) * (n > 0) for n in range(4)]
    return make_store(tmp_path_factory.mktemp("boost") / "store", views, labels).folder


def settings_of(store: Path, run: Path, **boost: Any) -> dict[str, Any]:
    settings = small_settings(Path(), run, train__epochs=5, train__lr=0.01, train__save_every=5)
    stage = {"epochs": 4, "threshold": 0.5, "check_epochs": 1, "label_smoothing": 0.1, "settled": 0} | boost
    return settings | {
        "data": {"features": str(store)},
        "views": {},
        "model": {"clusters": 4},
        "stages": {"boost": stage},
    }


def remembered(run: Path) -> dict[str, Any]:
    """What the newest checkpoint keeps of the stage."""
    newest = find(run).newest
    assert newest is not None
    file = newest.path / "deepspeed" / "mp_rank_00_model_states.pt"
    kept: dict[str, Any] = torch.load(file, weights_only=False)["ccscale"]["boost"]
    return kept


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, (run / "metrics.jsonl").open()) if line["kind"] == kind]


CALIBRATED = {"selection": "calibrated"}


@pytest.fixture(scope="module")
def unbroken(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    assert train_run(parse_config(settings_of(store, run))).finished
    return run


@pytest.fixture(scope="module")
def calibrated(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("calibrated") / "run"
    assert train_run(parse_config(settings_of(store, run, **CALIBRATED))).finished
    return run


def test_by_calibrated_confidence_it_labels_others(unbroken: Path, calibrated: Path) -> None:
    mine, others = ([line["loss"] for line in steps(run)] for run in (calibrated, unbroken))
    assert mine[:BEGIN] == others[:BEGIN]
    assert mine[BEGIN] != others[BEGIN]
    checks = lines(calibrated, "stage")
    assert {line["ended"] for line in checks} == {None}
    assert all(0 < line["labelled"] < 0.7 for line in checks)


def test_it_labels_first_and_then_trains(unbroken: Path) -> None:
    found = steps(unbroken)
    assert len(found) == STOP
    only_labels = [line["step"] for line in found if line["loss"] is None]
    assert only_labels == list(range(FIRST + 1, BEGIN + 1))
    checks = lines(unbroken, "stage")
    assert [line["step"] for line in checks] == list(range(BEGIN, STOP + 1, EPOCH))
    assert checks[0]["agreement"] == 1
    assert 0 < checks[0]["labelled"] < checks[-1]["labelled"]
    assert {line["ended"] for line in checks} == {None}
    labels, before = remembered(unbroken)["labels"], remembered(unbroken)["before"]
    assert labels.dtype == torch.int32
    assert 0 < int((labels >= 0).sum()) <= int((before >= 0).sum()) == EPOCH * 16


@pytest.mark.parametrize(
    ("stop", "boost"), [(FIRST + 4, {}), (BEGIN, {}), (BEGIN + 14, {}), (FIRST + 4, CALIBRATED)]
)
def test_it_goes_on_bit_for_bit(
    store: Path, tmp_path: Path, unbroken: Path, calibrated: Path, stop: int, boost: dict[str, Any]
) -> None:
    """Stopped while it labels, at the first check, while it trains; by threshold, and by calibrated confidence."""
    unbroken = calibrated if boost else unbroken
    settings = settings_of(store, tmp_path / "run", **boost)
    for last in (stop, None):
        settings["train"]["max_steps"] = last
        assert train_run(parse_config(settings)).finished
    digests, worst = difference(steps(tmp_path / "run"), steps(unbroken))
    assert digests
    assert worst == 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (unbroken / WEIGHTS).read_bytes()
    mine, other = remembered(tmp_path / "run"), remembered(unbroken)
    assert all(torch.equal(mine[name], other[name]) for name in ("labels", "clusters", "before"))


BAD = {"threshold": 0.3, "lr": 3.0}  # for a network that was hardly trained: it fails in its first epoch
PATIENT = {"settled": 0.01, "epochs": 3}  # it waits at the first check, begins at the second, trains an epoch


@pytest.fixture(scope="module")
def patient(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("patient") / "run"
    settings = settings_of(store, run, **PATIENT)
    assert train_run(parse_config(settings)).finished
    return run


def test_while_it_waits_the_run_trains_as_before(store: Path, tmp_path: Path, patient: Path) -> None:
    plain = settings_of(store, tmp_path / "run")
    del plain["stages"]
    plain["train"]["epochs"] = 8
    assert train_run(parse_config(plain)).finished
    found, others = steps(patient), steps(tmp_path / "run")
    assert [line["loss"] for line in found[: 7 * EPOCH]] == [line["loss"] for line in others[: 7 * EPOCH]]
    assert found[7 * EPOCH]["loss"] != others[7 * EPOCH]["loss"]
    checks = lines(patient, "stage")
    assert [(line["begun"], line["waits"] is None) for line in checks] == [
        (None, False),
        (7 * EPOCH, True),
        (7 * EPOCH, True),
    ]
    assert remembered(patient)["checks"][0]["step"] == 7 * EPOCH


def test_a_run_that_is_never_ready_is_one_without_the_stage(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, plain = tmp_path / "run", tmp_path / "plain"
    assert train_run(
        parse_config(settings_of(store, run, settled=0.01, least_labelled=1.0, epochs=2))
    ).finished
    assert "nothing is trained by labels yet: only " in capsys.readouterr().err
    without = settings_of(store, plain)
    del without["stages"]
    without["train"]["epochs"] = 7
    assert train_run(parse_config(without)).finished
    last, serving = find(run).newest, choose(run).newest
    assert last is not None
    assert serving is not None
    assert last.step == serving.step == 7 * EPOCH
    weights = f"checkpoints/step-{7 * EPOCH:08d}/model.safetensors"
    assert (run / weights).read_bytes() == (plain / weights).read_bytes()


@pytest.mark.parametrize("stop", [7 * EPOCH - 3, 7 * EPOCH, 7 * EPOCH + 2])
def test_it_waits_and_begins_bit_for_bit(store: Path, tmp_path: Path, patient: Path, stop: int) -> None:
    """Stopped while it waits, where it begins, while it trains by labels."""
    settings = settings_of(store, tmp_path / "run", **PATIENT)
    for last in (stop, None):
        settings["train"]["max_steps"] = last
        assert train_run(parse_config(settings)).finished
    assert difference(steps(tmp_path / "run"), steps(patient)) == (True, 0)
    mine, other = remembered(tmp_path / "run"), remembered(patient)
    assert all(torch.equal(mine[name], other[name]) for name in ("labels", "clusters", "before"))


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("boost", [{}, PATIENT, CALIBRATED, BAD])
def test_it_is_the_same_on_any_number_of_ranks(store: Path, tmp_path: Path, boost: dict[str, Any]) -> None:
    """In float64; killed while it labels and while it trains, and gone on with on another number of ranks.

    So, too, where it is ended: killed before and after that.
    """
    settings = settings_of(store, tmp_path / "unused", **boost)
    if boost == BAD:
        settings["train"]["lr"] = 1e-5
    config, later = write_config(tmp_path, settings), (BEGIN if boost != BAD else BEGIN + EPOCH) + 5
    overrides = ["train.precision=fp64", "train.zero=1"]
    run_trial(config, tmp_path / "one", Trial(1, 0), overrides)
    trials = (
        Trial(2, 0, killed_after=FIRST + 4, goes_on_at=1),
        Trial(1, 0, killed_after=later, goes_on_at=2),
    )
    for number, trial in enumerate(trials):
        run = tmp_path / f"run{number}"
        run_trial(config, run, trial, overrides)
        digests, worst = difference(steps(run), steps(tmp_path / "one"))
        assert digests
        assert worst <= BOUNDS["fp64"]
        mine, other = remembered(run), remembered(tmp_path / "one")
        assert all(torch.equal(mine[name], other[name]) for name in ("labels", "clusters", "before"))
        assert [check["step"] for check in mine["checks"]] == [check["step"] for check in other["checks"]]


def bad_settings(store: Path, run: Path, epochs: int) -> dict[str, Any]:
    """A network that was hardly trained, a low threshold, steps far too long: it fails in its first epoch."""
    bad = settings_of(store, run, **BAD, epochs=epochs)
    bad["train"] |= {"lr": 1e-5, "keep_last": 1}
    return bad


def weights_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / f"checkpoints/step-{step:08d}/model.safetensors")


ENDED = BEGIN + EPOCH


@pytest.fixture(scope="module")
def ended(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("ended") / "run"
    settings = bad_settings(store, run, 4)
    settings["train"]["keep_last"] = 20
    assert train_run(parse_config(settings)).finished
    return run


def test_a_stage_that_ends_last_leaves_the_clusters_before_to_serve(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = str(write_config(tmp_path, bad_settings(store, run, 2)))
    assert main(["train", config]) == 0
    said = capsys.readouterr().err
    assert f"; it ends at step {ENDED}: " in said
    assert f"the run serves the clusters of step {BEGIN}" in said
    last, serving = find(run).newest, choose(run).newest
    assert last is not None
    assert serving is not None
    assert (last.step, last.serves, serving.step) == (ENDED, BEGIN, BEGIN)
    assert lines(run, "stage")[-1]["ended"]
    assert main(["train", config]) == 0  # it has ended, and stays so
    assert "there is nothing left to do" in capsys.readouterr().err
    assert find(run).newest == last


def test_after_a_stage_that_ends_early_a_run_trains_as_before_from_what_serves(ended: Path) -> None:
    checks = lines(ended, "stage")
    assert [(line["step"], line["ended"] is None) for line in checks] == [(BEGIN, True), (ENDED, False)]
    found = steps(ended)
    assert [line["step"] for line in found] == list(range(1, STOP + 1))
    assert {line["lr"] for line in found[ENDED:]} == {1e-5}
    last, serving = find(ended).newest, choose(ended).newest
    assert last == serving
    assert last is not None
    assert (last.step, last.serves) == (STOP, None)
    before, failed, after = (weights_of(ended, step) for step in (BEGIN, ENDED, STOP))
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 1e-3  # 12 steps at 1e-5
    assert max(float((failed[name] - before[name]).abs().max()) for name in before) > 1


@pytest.mark.parametrize("stop", [ENDED, ENDED + 3])
def test_it_goes_on_bit_for_bit_after_a_stage_that_ended(
    store: Path, tmp_path: Path, ended: Path, stop: int
) -> None:
    settings = bad_settings(store, tmp_path / "run", 4)
    for last in (stop, None):
        settings["train"]["max_steps"] = last
        assert train_run(parse_config(settings)).finished
    assert difference(steps(tmp_path / "run"), steps(ended)) == (True, 0)
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (ended / WEIGHTS).read_bytes()


def test_a_random_network_labels_nothing(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(store, tmp_path / "run", threshold=0.5, epochs=2)
    settings["train"] |= {"epochs": 1, "lr": 1e-9}
    assert train_run(parse_config(settings)).finished
    assert "no image is so surely in its cluster (stages.boost.threshold 0.5)" in capsys.readouterr().err
    losses = [line["loss"] for line in steps(tmp_path / "run")]  # it trains on without labels
    assert [loss is None for loss in losses] == [False] * EPOCH + [True] * EPOCH + [False] * EPOCH


def test_what_a_check_finds_is_saved_though_its_clusters_are_not_the_best(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccscale.checkpoint.saver.is_best", lambda *kept: False)
    settings = settings_of(store, tmp_path / "run", threshold=0.5, epochs=1)
    settings["train"] |= {"epochs": 1, "lr": 1e-9}
    assert train_run(parse_config(settings)).finished
    newest = find(tmp_path / "run").newest
    assert newest is not None
    assert newest.step == 2 * EPOCH
    assert remembered(tmp_path / "run")["ended"]


def test_a_finished_run_can_be_given_a_stage(
    store: Path, tmp_path: Path, unbroken: Path, refused: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(store, tmp_path / "run")
    stage = settings.pop("stages")
    assert train_run(parse_config(settings)).finished
    assert train_run(parse_config(settings | {"stages": stage})).finished
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (unbroken / WEIGHTS).read_bytes()
    config = write_config(tmp_path, settings | {"stages": stage})
    capsys.readouterr()
    assert "stages.boost.threshold was 0.5 and is now 0.7" in refused(
        "train", config, "stages.boost.threshold=0.7"
    )
    assert "and stages.boost begins after them" in refused("train", config, "train.epochs=3")


@pytest.mark.dist
@pytest.mark.slow
def test_images_are_labelled_as_they_are(shards: Path, tmp_path: Path) -> None:
    """The same on two ranks with loader processes; killed, and gone on with on one."""
    settings = small_settings(shards, tmp_path / "unused", train__epochs=1, train__global_batch=30)
    settings |= {"stages": {"boost": {"epochs": 2, "threshold": 0.2, "check_epochs": 1, "settled": 0}}}
    config = write_config(tmp_path, settings)
    overrides = ["train.precision=fp64", "train.zero=1"]
    run_trial(config, tmp_path / "one", Trial(1, 0), overrides)
    run_trial(config, tmp_path / "two", Trial(2, 2, killed_after=12, goes_on_at=1), overrides)
    digests, worst = difference(steps(tmp_path / "two"), steps(tmp_path / "one"))
    assert digests
    assert worst <= BOUNDS["fp64"]
    labels = remembered(tmp_path / "one")["labels"]
    assert torch.equal(remembered(tmp_path / "two")["labels"], labels)
    assert (labels >= 0).any()
