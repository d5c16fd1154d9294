"""Heads that are trained on: ids stay, what is new is born, a killed retraining ends with the same version."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_images, small_settings, write_config
from harness.killed_making import contents
from harness.lineages import ids_at
from harness.ranks import run_ranks
from harness.stores import make_store
from safetensors.torch import load_file

from ccscale.cli.main import main
from ccscale.clusters import draft, retrained_network, retraining
from ccscale.clusters.description import describe_version
from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.proposal import Proposal
from ccscale.data.conversion.shards import make_shards
from ccscale.data.sources.kinds import open_source
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features
from ccscale.train import first_heads

WIDTH, K, NEW = 8, 4, 5


def rows(kinds: list[int], seed: int) -> np.ndarray:
    """Return images (n, D) of kinds: one direction each, K + 1 and more of which no run has seen."""
    rng = np.random.default_rng(seed)
    return (3 * np.eye(WIDTH)[kinds] + 0.3 * rng.normal(size=(len(kinds), WIDTH))).astype(np.float32)


@pytest.fixture(scope="module")
def updated(tmp_path_factory) -> Path:
    """A run on K kinds of images, whose clusters are centres, and a day with a kind more: its birth is proposed."""
    root = tmp_path_factory.mktemp("retraining")
    make_store(root / "store", rows([0, 1, 2, 3] * 40, 0), keys=[f"own/{i}" for i in range(160)])
    settings = small_settings(Path(), root / "run", train__max_steps=2, train__lr=1e-4)
    settings |= {"data": {"features": str(root / "store")}, "views": {}, "pairs": {"of": "neighbours"}}
    settings["model"] = {"clusters": K, "centres": ["features"]}
    settings["loss"] = {"cluster_weight": 0}
    find_neighbours(open_features(root / "store"), 5, device="cpu", show=False)
    assert main(["train", str(write_config(root, settings))]) == 0
    assert main(["lineage", "init", str(root / "run")]) == 0
    make_store(
        root / "day", rows([0, 1, 2, 3, NEW] * 24, 1), keys=[f"day/{i}" for i in range(120)], root="day"
    )
    with pytest.MonkeyPatch.context() as patch:
        none = np.empty(0, np.int64)
        patch.setattr(
            "ccscale.clusters.proposal_search.births",
            lambda day, state, reservoir, pool: [Proposal("birth", (), pool.refs, {}, "a group", none)],
        )
        assert main(["update", str(root / "run"), "--features", str(root / "day")]) == 0
    return root / "run"


@pytest.fixture
def living(updated, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(first_heads, "FEWEST", 96)
    monkeypatch.setattr(first_heads, "RATE", 1e-2)
    for name in ("run", "day"):
        shutil.copytree(updated.parent / name, tmp_path / name)
    return tmp_path / "run"


def retrain(run: Path, *options: str) -> int:
    options = ("train.max_steps=3", "loss.cluster_weight=1", *options)
    return main(["update", str(run), "--retrain", *options])


def test_ids_stay_and_what_was_proposed_is_born(living, capsys):
    before, kinds = ids_at(living), {f"day/{i}": (0, 1, 2, 3, NEW)[i % 5] for i in range(120)}
    assert retrain(living) == 0
    lineage, after = open_lineage(living), ids_at(living)
    version = lineage.current
    assert (version.number, version.why, version.files["network"].version) == (3, "retrain", 3)
    changed = {key for key in before if before[key] != after[key]}
    assert {before[key] for key in changed} == {-1}
    assert {after[key] for key in changed} == {K}
    assert {kinds[key] for key in changed} == {NEW}
    assert len(changed) >= 20
    assert [(event.kind, event.ids, event.images) for event in version.events] == [
        ("born", (K,), len(changed))
    ]
    assert not (living / "clusters" / ".update").exists()
    ids = list(after.values())
    assert {one["id"]: one["images"] for one in describe_version(lineage)["clusters"]} == {
        one: ids.count(one) for one in range(K + 1)
    }
    # What comes next gets its id by the new network; a rollback brings the old one back.
    make_store(
        living.parent / "next",
        rows([0, 1, 2, 3, NEW] * 8, 2),
        root="next",
        keys=[f"n/{i}" for i in range(40)],
    )
    assert main(["update", str(living), "--features", str(living.parent / "next")]) == 0
    found = ids_at(living)
    for kind, number in enumerate((0, 1, 2, 3, NEW)):
        of_day = [after[key] for key in kinds if kinds[key] == number and after[key] >= 0]
        of_next = [found[f"n/{i}"] for i in range(kind, 40, 5)]
        assert np.mean([one == of_day[0] for one in of_next]) >= 0.7
    assert main(["lineage", "rollback", str(living), "2"]) == 0
    assert open_lineage(living).network().parent.name == "v000001"
    assert ids_at(living) == before


def test_too_much_change_is_not_committed(living, capsys, monkeypatch):
    assert retrain(living, "train.lr=1") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "remembered images would have another id, or none, and at most 5.0% may" in told
    assert open_lineage(living).number == 2
    monkeypatch.setattr(retrained_network, "fit_head", None)  # nothing is trained again
    assert retrain(living, "train.lr=1", "--most-changed", "1") == 0
    assert open_lineage(living).number == 3


def test_a_head_that_is_fitted_to_the_ids_and_not_trained(living):
    before = ids_at(living)
    assert main(["update", str(living), "--retrain", "train.max_steps=3"]) == 0
    after = ids_at(living)
    assert {(before[key], after[key]) for key in before if before[key] != after[key]} == {(-1, K)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--retrain", "model.freeze=none"], "'model.freeze=none' cannot be set with --retrain"),
        (["--retrain", "--apply", "births"], "--retrain cannot be combined with these"),
        (["--features", "day", "train.lr=1"], "train.lr=1 goes with --retrain"),
    ],
)
def test_refused(living, options, sentence, capsys):
    assert main(["update", str(living), *options]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert open_lineage(living).number == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "at", ["find_neighbours", "fit_head", "train_run", "choose", "commit_change", "write_current"]
)
def test_killed_the_same_command_ends_with_the_same_version(at, living, monkeypatch, tmp_path):
    shutil.copytree(living, tmp_path / "other")
    assert retrain(living) == 0
    os.rename(living, tmp_path / "whole")
    os.rename(tmp_path / "other", living)

    def die(*given, **named):
        raise KeyboardInterrupt

    where = {"choose": retraining.checkpoint, "write_current": draft, "fit_head": retrained_network}
    with monkeypatch.context() as patch:
        patch.setattr(where.get(at, retraining), at, die)
        assert retrain(living) == 75
    assert open_lineage(living).number == 2
    assert retrain(living) == 0
    assert contents(living / "clusters") == contents(tmp_path / "whole" / "clusters")


@pytest.mark.slow
def test_a_run_that_was_trained_on_images(shards, tmp_path):
    """Its heads are trained on features of its own backbone, which go on being made by the same one."""
    run = tmp_path / "run"
    settings = small_settings(shards, run, train__max_steps=30, train__epochs=9, train__lr=3e-3)
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    assert main(["lineage", "init", str(run)]) == 0
    before, backbone = ids_at(run), load_file(run / "clusters" / "v000001" / "network" / "model.safetensors")
    assert retrain(run, "--most-changed", "1") == 0
    assert ids_at(run) == before
    trained = load_file(open_lineage(run).network() / "model.safetensors")
    assert trained.keys() == backbone.keys()
    same = {name for name in backbone if torch.equal(backbone[name], trained[name])}
    assert {name for name in backbone if name.startswith("backbone.")} <= same < backbone.keys()
    new = open_source("folder", str(make_images(tmp_path / "new", 40)))
    make_shards(new, tmp_path / "shards", shard_samples=20, workers=1, progress=False)
    assert main(["update", str(run), "--shards", str(tmp_path / "shards"), "--workers", "0"]) == 0
    assert open_lineage(run).current.counts["images"] == 190


def retrain_on_rank(rank: int, run: Path) -> None:
    assert retrain(run) == 0


@pytest.mark.dist
@pytest.mark.slow
def test_two_ranks_make_one_version(living):
    before = ids_at(living)
    run_ranks(2, retrain_on_rank, living)
    version, after = open_lineage(living).current, ids_at(living)
    assert (version.number, version.why) == (3, "retrain")
    assert {before[key] for key in before if before[key] != after[key]} == {-1}
