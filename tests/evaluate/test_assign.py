"""Every sample exactly once, with the same result, at any number of ranks."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import small_settings
from harness.pictures import spoil
from harness.ranks import run_ranks

from ccscale.config import Config, Model
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.assign import Assigned, assign, measure
from ccscale.evaluate.tally import Tally
from ccscale.model.network import ContrastiveClustering

K = 4


def network() -> ContrastiveClustering:
    torch.manual_seed(0)
    return ContrastiveClustering(Model(backbone="test_resnet", clusters=K), 16).double()


def by(batch: int) -> Config:
    """Return a config by which so many images are assigned at a time."""
    return Config.model_validate(small_settings(Path("none"), Path("none")) | {"evaluate": {"batch": batch}})


def on_rank(
    rank: int, shards: str, workers: int, spans: list[range] | None = None
) -> tuple[dict[str, np.ndarray], Tally | None]:
    """Return this rank's assignments as columns, and the sums of all ranks."""
    manifest = Manifest.load(shards)
    batches = list(
        assign(network(), manifest, ["train"], by(20), workers=workers, spans=spans, progress=False)
    )
    return columns(batches), measure(network(), manifest, ["train"], by(20), progress=False)


def columns(batches: list[Assigned]) -> dict[str, np.ndarray]:
    found: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("clusters", "confidence", "second", "second_confidence")
    }
    found["samples"] = np.concatenate([batch.batch.samples for batch in batches])
    found["keys"] = np.concatenate([batch.batch.keys for batch in batches])
    found["labels"] = np.concatenate([batch.batch.labels for batch in batches])
    found["p"] = np.concatenate([batch.outputs.assignments for batch in batches])
    return found


@pytest.fixture(scope="module")
def alone(shards: Path) -> tuple[dict[str, np.ndarray], Tally]:
    found, tally = on_rank(0, str(shards), 0)
    assert tally is not None
    return found, tally


def test_every_sample_is_there_once_with_its_label(alone):
    found, _ = alone
    assert len(set(found["keys"])) == len(found["keys"]) == 150
    assert found["samples"].tolist() == list(range(150))
    assert found["labels"].tolist() == [int(key.split("/")[0].removeprefix("class")) for key in found["keys"]]


def test_cluster_and_the_next_likely_one(alone):
    found, _ = alone
    order = np.argsort(-found["p"], axis=1)
    assert found["clusters"].tolist() == order[:, 0].tolist()
    assert found["second"].tolist() == order[:, 1].tolist()
    ranked = -np.sort(-found["p"], axis=1)
    assert np.allclose(found["confidence"], ranked[:, 0], atol=1e-7)
    assert np.allclose(found["second_confidence"], ranked[:, 1], atol=1e-7)


def test_sums(alone):
    found, tally = alone
    summary = tally.summary()
    assert summary["sizes"] == np.bincount(found["clusters"], minlength=K).tolist()
    assert summary["confidence"] == pytest.approx(found["p"].max(axis=1).mean(), abs=1e-7)
    assert summary["labelled"] == 150
    assert {"acc", "purity", "nmi", "ari", "f"} <= summary.keys()


@pytest.mark.dist
@pytest.mark.parametrize(("world", "workers"), [(2, 2), (3, 0)])
def test_ranks_share_the_samples_and_add_up(shards, alone, world, workers):
    results = run_ranks(world, on_rank, str(shards), workers)
    (_, tally), *others = results
    assert [other for _, other in others] == [None] * (world - 1)
    for name, values in alone[0].items():
        joined = np.concatenate([found[name] for found, _ in results])
        assert len(joined) == 150
        same = (
            np.allclose(joined, values, atol=1e-6) if values.dtype.kind == "f" else (joined == values).all()
        )
        assert same, name
    expected = alone[1].summary()
    summary = tally.summary()
    assert summary.pop("sizes") == expected.pop("sizes")
    assert summary == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("workers", [0, 2])
def test_spans(shards, alone, workers):
    """One after the other, in the order asked for, and no batch across an end."""
    spans = [range(130, 150), range(7, 52), range(1)]
    manifest = Manifest.load(shards)
    batches = list(
        assign(network(), manifest, ["train"], by(20), workers=workers, spans=spans, progress=False)
    )
    assert [len(batch.clusters) for batch in batches] == [20, 20, 20, 5, 1]
    wanted = [sample for span in spans for sample in span]
    found = columns(batches)
    assert found["samples"].tolist() == wanted
    assert np.allclose(found["p"], alone[0]["p"][wanted], atol=1e-9)


@pytest.mark.parametrize("groups", [[0, 1, 0, 1], [0, 0, 1, 2], [0, 0, 0, 0]])
def test_merged_clusters(shards, alone, groups):
    """An image goes where its cluster goes, and is as sure of it as of all clusters that are in it."""
    joined = np.array(groups)
    found = columns(
        list(assign(network(), Manifest.load(shards), ["train"], by(64), groups=joined, progress=False))
    )
    p = np.stack([alone[0]["p"][:, joined == group].sum(axis=1) for group in range(max(groups) + 1)], axis=1)
    clusters = joined[alone[0]["clusters"]]
    assert found["clusters"].tolist() == clusters.tolist()
    assert np.allclose(found["confidence"], p[np.arange(150), clusters], atol=1e-6)
    p[np.arange(150), clusters] = -1
    if p.shape[1] == 1:
        assert (found["second"] == -1).all()
        assert (found["second_confidence"] == 0).all()
    else:
        assert found["second"].tolist() == p.argmax(axis=1).tolist()
        assert np.allclose(found["second_confidence"], p.max(axis=1), atol=1e-6)


def test_the_network_is_left_in_its_mode(shards: Path) -> None:
    network = ContrastiveClustering(Model(backbone="test_resnet", clusters=K), 16).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure(network, Manifest.load(shards), ["train"], by(64), progress=False)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_image_that_cannot_be_decoded_has_no_cluster(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    index = spoil(manifest, 1, 2)
    batches = list(assign(network(), manifest, ["train"], by(20), progress=False))
    found = columns(batches)
    (bad,) = np.flatnonzero(found["clusters"] < 0)
    assert found["keys"][bad] == index.keys[2]
    assert (found["confidence"][bad], found["second"][bad], found["second_confidence"][bad]) == (0, -1, 0)
    assert len(found["keys"]) == 150
    (reason,) = (line for batch in batches for line in batch.batch.reasons)
    assert reason.startswith(f"{index.keys[2]}: ")
    tally = measure(network(), manifest, ["train"], by(20), progress=False)
    assert tally is not None
    assert (tally.summary()["images"], tally.soft.images, tally.unassigned) == (149, 149, 1)
