"""Clusters of k-means joined to fewer: by average linkage over all pairs of images, and what that gives."""

import numpy as np
import pytest
import torch
from harness.configs import refusal
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from ccscale.features.joining import join_clusters
from ccscale.features.kmeans import k_means
from ccscale.model.heads import CentreHead

SIZES = (900, 90, 90, 60)


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A large and wide group and three small ones, (n, 16) of length 1, and the group of each."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), SIZES)
    own = np.where(labels == 0, 1.2, 0.5)[:, None] * draw.normal(size=(len(labels), 16))
    found = (draw.normal(size=(4, 16))[labels] + own).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True), labels


def plain(x: NDArray[np.float32], clusters: NDArray[np.int64], count: int) -> list[set[int]]:
    """Average linkage by the cosines of all pairs of images."""
    groups = [{cluster} for cluster in np.unique(clusters).tolist()]
    while len(groups) > count:
        members = [x[np.isin(clusters, list(group))] for group in groups]
        pairs = [(i, j) for j in range(len(groups)) for i in range(j)]
        i, j = max(pairs, key=lambda pair: float((members[pair[0]] @ members[pair[1]].T).mean()))
        groups[i] |= groups.pop(j)
    return groups


def test_the_most_alike_of_all_pairs_are_joined(rows) -> None:
    x, labels = rows
    means = k_means(x, 12, spherical=True, starts=5)
    joined = join_clusters(means, 4)
    assert sorted(map(sorted, plain(x, means.clusters, 4))) == sorted(
        np.flatnonzero(joined == cluster).tolist() for cluster in range(4)
    )
    alone = k_means(x, 4, spherical=True, starts=5)
    assert adjusted_rand_score(labels, joined[means.clusters]) > 0.85
    assert adjusted_rand_score(labels, joined[means.clusters]) > adjusted_rand_score(labels, alone.clusters)


def test_a_head_of_parts_assigns_to_the_cluster_of_the_nearest_centre(rows) -> None:
    x, _ = rows
    means = k_means(x, 12, spherical=True, starts=5)
    head = CentreHead("features", 16, clusters=4, parts=3)
    head.centres.copy_(torch.from_numpy(means.centres))
    head.joined.copy_(torch.from_numpy(join_clusters(means, 4)))
    p = head(torch.from_numpy(x))
    assert np.array_equal(p.argmax(dim=1).numpy(), join_clusters(means, 4)[means.clusters])
    assert torch.allclose(p.sum(dim=1), torch.ones(len(p)))
    assert set(CentreHead("features", 16, 4).state_dict()) == {"centres"}  # as it was before there were parts


def test_too_many_centres_to_be_joined_are_refused() -> None:
    message = refusal("model.clusters=2000", "model.centre_parts=3")
    assert "centre_parts times clusters may be at most 4,096" in message
