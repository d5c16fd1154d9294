"""Every sample exactly once, with the same result, at any number of ranks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks

from ccscale.config import Model
from ccscale.data.index import read_index
from ccscale.data.manifest import Manifest
from ccscale.evaluate.assign import Assignments, assign
from ccscale.model.network import ContrastiveClustering


def on_rank(rank: int, shards: str, workers: int) -> Assignments | None:
    torch.manual_seed(0)
    network = ContrastiveClustering(Model(backbone="test_resnet", clusters=4), 16).double()
    return assign(
        network, Manifest.load(shards), ["train"], batch=20, workers=workers, features=True, progress=False
    )


@pytest.fixture(scope="module")
def alone(shards: Path) -> Assignments:
    found = on_rank(0, str(shards), 0)
    assert found is not None
    return found


def test_every_sample_is_there_once_with_its_label(alone: Assignments) -> None:
    assert len(set(alone.keys)) == len(alone.keys) == 150
    assert alone.labels.tolist() == [int(key.split("/")[0].removeprefix("class")) for key in alone.keys]
    assert alone.features is not None
    assert alone.features.shape == (150, 96)
    assert ((alone.confidence > 0.25) & (alone.confidence <= 1)).all()


@pytest.mark.dist
@pytest.mark.parametrize(("world", "workers"), [(2, 2), (3, 0)])
def test_ranks_give_the_same_on_rank_zero_alone(
    shards: Path, alone: Assignments, world: int, workers: int
) -> None:
    first, *others = run_ranks(world, on_rank, str(shards), workers)
    assert others == [None] * (world - 1)
    assert first.keys == alone.keys
    assert np.array_equal(first.clusters, alone.clusters)
    assert np.allclose(first.confidence, alone.confidence, atol=1e-6)
    assert np.allclose(first.features, alone.features, atol=1e-5)
    assert first.soft.images == 150
    assert first.soft.information == pytest.approx(alone.soft.information, abs=1e-12)


def test_the_network_is_left_in_its_mode(shards: Path) -> None:
    network = ContrastiveClustering(Model(backbone="test_resnet", clusters=4), 16).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assign(network, Manifest.load(shards), ["train"], batch=64, progress=False)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_image_that_cannot_be_decoded_has_no_cluster(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    index = read_index(manifest, manifest.shards[1])
    with open(manifest.locate(manifest.shards[1]), "r+b") as file:
        file.seek(int(index.offsets[2]))
        file.write(bytes(30))
    found = on_rank(0, str(copy), 0)
    assert found is not None
    (bad,) = np.flatnonzero(found.clusters < 0)
    assert found.keys[bad] == index.keys[2]
    assert found.confidence[bad] == 0
    assert len(found.keys) == 150
    assert found.soft is not None
    assert found.soft.images == 149
    (reason,) = found.reasons
    assert reason.startswith(f"{index.keys[2]}: ")
