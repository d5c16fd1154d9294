"""The calibration head: mini-clusters, what it learns of them, and how many images it selects."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ccscale.config import Config
from ccscale.model.network import ContrastiveClustering
from ccscale.train.boost.calibration import Calibrator, calibration_loss
from ccscale.train.boost.mini_clusters import MOST, mini_clusters
from ccscale.train.boost.selection import most_confident


def groups_of_two(images: int, width: int = 32) -> Tensor:
    """Features of which each lies next to one other, (images, width)."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(images // 2, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(images, width, generator=generator, dtype=torch.float64)
    return pairs.repeat(2, 1) + 0.01 * noise


def test_mini_clusters_are_of_images_that_lie_next_to_each_other() -> None:
    features = groups_of_two(200)
    groups, count = mini_clusters(features, seed=0, step=7)
    assert count == 100
    assert (groups[:100] == groups[100:]).double().mean() > 0.8  # of 100 for chance
    again, _ = mini_clusters(features, seed=0, step=7)
    assert torch.equal(groups, again)
    assert not torch.equal(groups, mini_clusters(features, seed=0, step=8)[0])


@pytest.mark.parametrize("images", [1, 2, 3, MOST + 6])
def test_mini_clusters_of_any_batch(images: int) -> None:
    groups, count = mini_clusters(torch.randn(images, 4), seed=0, step=0)
    assert groups.shape == (images,)
    assert images / 2 <= count <= images / 2 + 1
    assert 0 <= int(groups.min()) <= int(groups.max()) < count


def plain(confidence: list[float], clusters: list[int], k: int, share: float) -> list[bool]:
    """Select cluster by cluster."""
    chosen = [False] * len(clusters)
    for cluster in range(k):
        members = sorted((-c, i) for i, c in enumerate(confidence) if clusters[i] == cluster)
        top = members[: int(np.ceil(share * len(clusters) / k))]
        for _, i in top[: round(-sum(c for c, _ in top))]:
            chosen[i] = True
    return chosen


@pytest.mark.parametrize(("k", "share"), [(2, 0.5), (4, 1.0), (7, 0.3), (1000, 0.5)])
def test_as_many_have_a_label_as_are_right(k: int, share: float) -> None:
    rng = np.random.default_rng(k)
    confidence, clusters = rng.uniform(size=90), rng.integers(0, max(k - 1, 2), 90)
    found = most_confident(torch.from_numpy(confidence), torch.from_numpy(clusters), k, share)
    assert found.tolist() == plain(confidence.tolist(), clusters.tolist(), k, share)
    assert found.any()


def test_it_becomes_unsure_where_images_that_are_alike_are_in_different_clusters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sure cluster head that is at odds with itself on one half of the images."""
    monkeypatch.setattr("ccscale.train.boost.calibration.RATE", 0.01)
    config = Config.model_validate(
        {"data": {"features": "store"}, "run": "run", "model": {"clusters": 2, "head_width": 16}}
    )
    torch.manual_seed(0)
    network = ContrastiveClustering(config.model, 224, width=16)
    features = groups_of_two(128, 16).float()
    at_odds = torch.arange(128) % 64 < 32
    of_pair = torch.arange(64).repeat(2) % 2
    clusters = torch.where(at_odds, (torch.arange(128) >= 64).long(), of_pair)
    p = torch.full((128, 2), 0.02).scatter_(1, clusters[:, None], 0.98)
    random = torch.get_rng_state()
    calibrator = Calibrator(network.cluster_head, config.model, width=16, seed=0)
    assert torch.equal(torch.get_rng_state(), random)  # nothing is drawn: the run's other numbers stay
    first = calibrator.take(features, p, 0)
    own = network.heads_of(features).assignments.gather(1, clusters[:, None])[:, 0]
    torch.testing.assert_close(first, own)  # it begins as what the cluster head is
    for step in range(1, 150):
        confidence = calibrator.take(features, p, step)
    assert confidence[~at_odds].mean() > confidence[at_odds].mean() + 0.2
    before = calibrator.state()["head"]["layers.0.weight"].clone()
    calibrator.take(features * torch.nan, p, 0)  # what is not finite changes nothing
    assert torch.equal(calibrator.state()["head"]["layers.0.weight"], before)


def test_the_loss_keeps_clusters_in_use() -> None:
    even, one = torch.full((6, 3), 1 / 3), torch.eye(3)[torch.zeros(6, dtype=torch.long)]
    q = torch.full((6, 3), 1 / 3)
    torch.testing.assert_close(calibration_loss(even, q), torch.tensor(0.0))
    assert calibration_loss(one * 0.98 + 0.02 / 3, q) > 1
