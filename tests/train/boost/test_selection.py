"""Labels of batches beside a plain loop over clusters and images: ties, empty clusters, images met twice."""

import math

import numpy as np
import pytest
import torch

from ccscale.config.stages import Boost
from ccscale.train.boost.labels import LastingLabels
from ccscale.train.boost.selection import candidates

K, IMAGES = 4, 40


def plain(
    labels: dict[int, int], batch: list[tuple[int, float, int]], share: float, threshold: float
) -> dict[int, int]:
    """TCL's rules, image by image: (sample, confidence, cluster) of a batch, labels by sample."""
    quota = math.ceil(share * len(batch) / K)
    chosen = set()
    for k in range(K):
        members = [
            (-confidence, place) for place, (_, confidence, cluster) in enumerate(batch) if cluster == k
        ]
        chosen |= {place for _, place in sorted(members)[:quota]}
    after = dict(labels)
    for place, (sample, confidence, cluster) in enumerate(batch):
        label = labels[sample]
        if label == -1 and place in chosen:
            label = cluster
        after[sample] = -1 if confidence < threshold else label
    return after


@pytest.mark.parametrize(("share", "threshold"), [(0.5, 0.6), (0.2, 0.0), (1.0, 0.9)])
def test_labels_last_by_the_rules(share: float, threshold: float) -> None:
    rng = np.random.default_rng(0)
    memory = LastingLabels(IMAGES, K, Boost(share=share, threshold=threshold), torch.device("cpu"))
    expected, first = dict.fromkeys(range(IMAGES), -1), dict.fromkeys(range(IMAGES), -1)
    moved = 0
    for step in range(30):
        trained = step >= 3
        samples = rng.permutation(IMAGES)[:16]
        confidence = rng.integers(0, 11, 16) / 10  # many are equal
        clusters = rng.integers(0, K - 1, 16)  # the last one is empty
        batch = list(zip(samples.tolist(), confidence.tolist(), clusters.tolist(), strict=True))
        of_batch = memory.take(*map(torch.from_numpy, (samples, confidence, clusters)))
        if step == 2:
            memory.compare_from_here()
        expected = plain(expected, batch, share, threshold)
        assert memory.labels.tolist() == list(expected.values())
        assert of_batch.tolist() == [expected[sample] for sample in samples.tolist()]
        for sample, _, cluster in batch:
            first[sample] = first[sample] if trained else cluster
            moved += expected[sample] not in (-1, cluster)
    assert memory.before.tolist() == list(first.values())
    assert moved or share == 1  # an older label has stayed though the cluster was another one
    assert max(expected.values()) >= 0


def test_labels_do_not_last_while_it_waits() -> None:
    memory = LastingLabels(2, 2, Boost(share=0.5, threshold=0.5), torch.device("cpu"))
    samples, clusters = torch.arange(2), torch.zeros(2, dtype=torch.long)
    assert memory.take(samples, torch.tensor([0.9, 0.8]), clusters, lasting=False).tolist() == [0, -1]
    assert memory.take(samples, torch.tensor([0.8, 0.9]), clusters, lasting=False).tolist() == [-1, 0]
    assert memory.take(samples, torch.tensor([0.9, 0.8]), clusters).tolist() == [0, 0]


def test_an_image_that_is_there_twice_has_one_label() -> None:
    memory = LastingLabels(3, 2, Boost(share=0.5, threshold=0.5), torch.device("cpu"))
    samples, clusters = torch.tensor([1, 1, 2, 0]), torch.tensor([1, 1, 0, 0])
    found = memory.take(samples, torch.tensor([0.9, 0.9, 0.8, 0.7]), clusters)
    assert memory.labels.tolist() == [-1, 1, 0]  # of two images one is a candidate
    assert found.tolist() == [1, 1, 0, -1]


def test_the_order_of_equally_confident_images_decides() -> None:
    found = candidates(torch.full((6,), 0.7), torch.tensor([1, 0, 1, 1, 0, 1]), 2, 0.5)
    assert found.tolist() == [True, True, True, False, True, False]
