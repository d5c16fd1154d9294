"""Every recipe in configs/ does what its head says: the commands from the download to the score, at small size."""

import json
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import make_images
from harness import small_sources

from ccscale.cli.main import main
from ccscale.config import Config
from ccscale.config.file import load_config
from ccscale.data.shards.manifest import Manifest
from ccscale.model.network import ContrastiveClustering

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
CLUSTERS = {  # classes of the data set; others in the shards are not the recipe's
    "cifar10": 10,
    "cifar20": 20,
    "stl10": 10,
    "imagenet-10": 10,
    "imagenet-dogs": 15,
    "tiny-imagenet": 200,
    "imagenet-1k": 1000,
    "fashion-mnist": 10,
    "digits": 10,
}
SOURCES: dict[str, Callable[[Path], None]] = {  # what a head's commands read
    "cifar-10-python.tar.gz": small_sources.cifar10,
    "cifar-100-python.tar.gz": small_sources.cifar100,
    "stl10_binary": small_sources.stl10,
    "tiny-imagenet-200": small_sources.tiny_imagenet,
    "fashion-mnist": small_sources.idx,
    "DIR": lambda path: make_images(path, 30) and None,
    "cells": small_sources.cells,
}
# A step is of 16 images, the network small; all else is the recipe's.
SMALL = [
    "views.size=32",
    "model.backbone=test_resnet",
    "train.global_batch=16",
    "train.max_steps=2",
    "train.device=cpu",
    "data.workers=0",
    "evaluate.every=0",
]


FROZEN = [recipe for recipe in RECIPES if load_config(CONFIGS / f"{recipe}.yaml").data.features is not None]


def head_of(recipe: str) -> str:
    text = (CONFIGS / f"{recipe}.yaml").read_text()
    return text[: text.index("\ndata:")]


def commands_of(recipe: str) -> list[list[str]]:
    """Return the `ccscale` commands in a recipe's head, split into words."""
    text = re.sub(r"\\\n# +", "", head_of(recipe))
    return [shlex.split(line)[1:] for line in re.findall(r"^#   (ccscale .*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_head_names_aim_cost_and_commands(recipe: str) -> None:
    head, commands = head_of(recipe), commands_of(recipe)
    for line in ("Aims at: ", "Hardware: ", "Hours: "):
        assert re.search(rf"^# {line} *\S", head, re.MULTILINE), line
    for number in ("ACC", "NMI"):
        assert number in head or "no published score" in head
    verbs = [command[0] for command in commands]
    assert verbs[0] == "shards"
    assert verbs[-1] == "evaluate"
    config = load_config(CONFIGS / f"{recipe}.yaml")
    assert config.run == commands[-1][1]
    if recipe in FROZEN:
        (embed,) = (command for command in commands if command[0] == "embed")
        assert embed[1] in commands[0]
        assert embed[2] == config.data.features
        assert int(embed[embed.index("--neighbours") + 1]) == config.pairs.neighbours
        assert "has seen other images" in head
    else:
        assert config.data.shards in commands[0]
    training = [command for command in commands if command[0] in ("train", "launch")]
    assert all(command[1] == f"configs/{recipe}.yaml" for command in training)
    assert training
    table = (CONFIGS.parent / "docs/reference/recipes.md").read_text()
    assert f"[{recipe}](../../configs/{recipe}.yaml)" in table


@pytest.mark.parametrize(
    "recipe",
    [recipe for recipe in RECIPES if recipe.removesuffix("-modern").removeprefix("frozen-") in CLUSTERS],
)
def test_a_recipe_has_a_cluster_for_each_class(recipe: str) -> None:
    config = load_config(CONFIGS / f"{recipe}.yaml")
    assert config.model.clusters == CLUSTERS[recipe.removesuffix("-modern").removeprefix("frozen-")]
    if (
        not recipe.endswith("-modern")
        and recipe not in FROZEN
        and recipe
        not in (
            "imagenet-1k",
            "fashion-mnist",
            "digits",
        )
    ):  # the paper's
        assert (config.views.size, config.model.backbone, config.model.stem) == (224, "resnet34", "standard")
        assert (config.train.global_batch, config.train.epochs, config.train.lr) == (256, 1000, 3e-4)
        assert config.views.strength == (1.0 if recipe in ("stl10", "imagenet-10", "imagenet-dogs") else 0.5)
        assert config.views.blur == (0.5 if recipe.startswith("imagenet") else 0)
        assert config.train.precision == "fp32"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small downloads."""
    root = tmp_path_factory.mktemp("downloads")
    for name, write in SOURCES.items():
        write(root / name)
    (root / "1000").mkdir()
    small_sources.imagenet(root / "1000" / "ILSVRC2012_img_train.tar", 1000, images=1)
    small_sources.imagenet(root / "ILSVRC2012_img_train.tar", 30)
    return root


def without_k_means(config: Config) -> list[str]:
    """Return what leaves out k-means of many clusters: it is half of a test, and the other recipes have it."""
    return ["--no-k-means"] if max(config.model.cluster_counts) > 100 else []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["folder", "frozen-stl10", "frozen-imagenet-1k"])
def test_a_frozen_recipe_goes_from_the_download_to_the_score(
    recipe: str, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The features are a small network's, with random weights; the heads and their training the recipe's.

    The other recipes' sources are those of the recipes from scratch, and their heads those of these.
    """
    config = load_config(CONFIGS / f"{recipe}.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    shards, embed, *_, train, evaluate = (
        command for command in commands_of(recipe) if command[0] in ("shards", "embed", "train", "evaluate")
    )
    place = downloads / "1000" if recipe == "frozen-imagenet-1k" else downloads
    shards[3] = str(place / Path(shards[3]).name)
    assert main([*shards, "--workers", "1"]) == 0
    splits = [word for before, word in pairwise(embed) if before == "--split"]
    made = [word for split in splits for word in ("--split", split)]
    small = ["--backbone", "test_resnet", "--weights", "random", "--size", "32", "--neighbours", "4"]
    views = ["--views", "2"] if config.pairs.of != "neighbours" else []
    assert main([*embed[:3], *small, *views, *made, "--device", "cpu", "--workers", "0"]) == 0
    overrides = [word for word in train[2:] if "=" in word and not word.endswith("=K")]
    steps = ["train.global_batch=16", "train.max_steps=2", "train.device=cpu", "pairs.neighbours=4"]
    if config.model.clusters > 100:  # as many heads of so many clusters take ten seconds
        steps.append("model.heads=2")
    assert main(["train", train[1], *overrides, *steps]) == 0
    capsys.readouterr()
    assert main([*evaluate, "--json", *without_k_means(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    manifest = Manifest.load(embed[1])
    assert sum(found["sizes"]) == sum(manifest.splits[split][0] for split in config.evaluated_splits)
    assert len(found["sizes"]) == config.model.clusters


@pytest.mark.slow
def test_a_network_of_each_kind_is_built_and_gives_assignments() -> None:
    """One of each backbone, stem and size: recipes that have these in common differ in their heads' sizes alone."""
    configs = [load_config(CONFIGS / f"{recipe}.yaml") for recipe in RECIPES if recipe not in FROZEN]
    kinds = {
        (config.model.backbone, config.model.stem, config.model.in_chans, config.views.size): config
        for config in configs
    }
    assert 3 < len(kinds) < len(configs)
    for config in kinds.values():
        network = ContrastiveClustering(config.model, config.views.size)
        images = torch.rand(1, config.model.in_chans, config.views.size, config.views.size)
        assert network.eval()(images).assignments.shape == (1, config.model.clusters)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in FROZEN])
def test_a_recipe_goes_from_the_download_to_the_score(
    recipe: str, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    config = load_config(CONFIGS / f"{recipe}.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    shards, *_, train, evaluate = (
        command for command in commands_of(recipe) if command[0] in ("shards", "train", "launch", "evaluate")
    )
    place = downloads / "1000" if recipe == "imagenet-1k" else downloads
    if recipe != "digits":
        shards[3] = str(place / Path(shards[3]).name)
    assert main([*shards, "--workers", "1"]) == 0
    manifest = Manifest.load(config.data.shards)
    if recipe != "folder-scratch":
        assert len(manifest.classes) == config.model.clusters

    overrides = [word for word in train[2:] if "=" in word and not word.endswith("=K")]
    assert main(["train", train[1], *overrides, *SMALL]) == 0
    capsys.readouterr()
    assert main([*evaluate, "--json", *without_k_means(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    trained = {split: manifest.splits[split][0] for split in config.evaluated_splits}
    assert sum(found["sizes"]) == sum(trained.values())
    assert found["labelled"] == sum(trained.values())
    log = map(json.loads, Path(config.run_folder, "metrics.jsonl").read_text().splitlines())
    phases = [record.get("phase") for record in log if record["kind"] == "step"]
    assert phases == ([1, 2] if recipe.startswith("stl10") else [None, None])
