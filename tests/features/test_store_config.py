"""What a run takes of its store, and what is refused of the two."""

import json
from pathlib import Path

import numpy as np
import pytest
from harness.stores import make_store

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import InputError
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features
from ccscale.features.store_config import open_run_store

N = 40


def store(folder: Path, views: int = 2, **settings) -> Path:
    rng = np.random.default_rng(0)
    make_store(folder, [rng.normal(size=(N, 5)).astype(np.float32) for _ in range(views + 1)], **settings)
    return folder


def config(folder: Path, *overrides: str) -> Config:
    return parse_config({"data": {"features": str(folder)}, "model": {"clusters": 4}}, overrides)


def refusal(folder: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        open_run_store(config(folder, *overrides))
    return str(caught.value)


def test_backbone_and_views_are_the_store_s(tmp_path):
    place = store(
        tmp_path / "store",
        backbone="resnet18",
        size=48,
        model={"stem": "small", "normalize": True},
        view_settings={"size": 48, "flip": 0.25, "raw": 0},
    )
    found, features = open_run_store(config(place, "views.raw=1"))
    assert features.rows == N
    assert (found.model.backbone, found.model.stem, found.model.normalize) == ("resnet18", "small", True)
    assert found.model.freeze == "all"
    assert (found.views.size, found.views.flip, found.views.raw) == (48, 0.25, 1)
    again, _ = open_run_store(parse_config(json.loads(found.model_dump_json())))  # as a resume reads it
    assert again == found


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "model.backbone=resnet50",
            "model.backbone is resnet50, but the feature store {place} has test_resnet: leave it out, or "
            "make a store with it (`ccscale embed`)",
        ),
        (
            "views.size=64",
            "views.size is 64, but the feature store {place} has 32: leave it out, or make a store with "
            "it (`ccscale embed`)",
        ),
        (
            "model.freeze=none",
            "model.freeze is none, but the feature store {place} has all: leave it out, or make a store "
            "with it (`ccscale embed`)",
        ),
        (
            "model.pretrained=true",
            "model.pretrained is True, but a run on a feature store has the backbone that made it "
            "({place}): leave it out",
        ),
        (
            "model.clusters=41",
            "model.clusters is 41, but {place} has only 40 images of train: use fewer clusters",
        ),
        (
            "pairs.of=neighbours",
            "pairs.of is neighbours, but {place} has no neighbours: compute them with `ccscale embed "
            "--neighbours 50`",
        ),
        ("data.splits=[val]", "{place} has no split 'val'; it has train"),
    ],
)
def test_refusals(tmp_path, override, sentence):
    place = store(tmp_path / "store")
    assert refusal(place, override) == sentence.format(place=place)


def test_too_few_neighbours(tmp_path):
    place = store(tmp_path / "store")
    find_neighbours(open_features(place), 3, device="cpu", show=False)
    assert refusal(place, "pairs.of=both", "pairs.neighbours=4") == (
        f"pairs.neighbours is 4, but {place} has 3 neighbours of each image: compute them with `ccscale embed "
        "--neighbours 4`"
    )
    open_run_store(config(place, "pairs.of=both", "pairs.neighbours=3"))


@pytest.mark.parametrize("of", ["views", "both"])
def test_no_random_views(tmp_path, of):
    place = store(tmp_path / "store", views=0)
    find_neighbours(open_features(place), 3, device="cpu", show=False)
    assert refusal(place, f"pairs.of={of}") == (
        f"pairs.of is {of}, but {place} has no random views: set pairs.of=neighbours, or make a store "
        "with `ccscale embed --views 2`"
    )
    open_run_store(config(place, "pairs.of=neighbours"))


def test_a_store_that_is_half_written(tmp_path):
    place = store(tmp_path / "store")
    listing = json.loads((place / "features.json").read_text())
    (place / "features.json").write_text(json.dumps(listing | {"complete": False}))
    assert refusal(place) == (
        f"{place} is incomplete: run `ccscale embed shards {place}` again with the same options to continue"
    )


def test_a_store_of_other_shards(tmp_path, manifest: Manifest):
    """The shards are there, and one is not what the store was made of."""
    rng = np.random.default_rng(0)
    count = sum(shard.nsamples for shard in manifest.shards)
    place = tmp_path / "store"
    make_store(place, [rng.normal(size=(count, 5)).astype(np.float32)] * 2, manifest=manifest)
    open_run_store(config(place))
    listing = json.loads((place / "features.json").read_text())
    listing["files"][2]["shard"]["sha256"] = "0" * 64  # of one that was embedded before a manifest listed it
    (place / "features.json").write_text(json.dumps(listing))
    open_run_store(config(place))
    listing["files"][2]["shard"]["sha256"] = "f" * 64
    (place / "features.json").write_text(json.dumps(listing))
    assert refusal(place) == (
        f"{place} does not belong to the shards in {manifest.root}: 1 shard that it was made of is not there, or "
        f"changed, the first is {manifest.shards[2].url}; make it anew with `ccscale embed {manifest.root} STORE`"
    )
