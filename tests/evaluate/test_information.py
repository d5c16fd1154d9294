"""Mutual information of image and cluster: its extremes, its sums, against the definition."""

import numpy as np
import pytest
import torch

from ccscale.evaluate.information import SoftCounts


def by_definition(p: np.ndarray) -> float:
    """Σ_ik p(i) p(k|i) log(p(k|i) / p(k)), with p(i) = 1/N."""
    q = p.mean(axis=0)
    return sum(p[i, k] * np.log(p[i, k] / q[k]) for i, k in np.ndindex(p.shape) if p[i, k] > 0) / len(p)


@pytest.mark.parametrize("k", [2, 7, 50])
def test_against_the_definition_however_it_is_cut(k):
    p = torch.softmax(3 * torch.randn(90, k, dtype=torch.float64), dim=1)
    whole = SoftCounts.of(p)
    assert whole.information == pytest.approx(by_definition(p.numpy()), abs=1e-12)
    parts = SoftCounts.join(SoftCounts.of(part) for part in p.split([1, 30, 0, 59]))
    assert parts.images == 90
    assert parts.information == pytest.approx(whole.information, abs=1e-12)


def test_log_k_where_every_image_is_sure_and_all_clusters_are_used():
    assert SoftCounts.of(torch.eye(5)).information == pytest.approx(np.log(5), abs=1e-12)


@pytest.mark.parametrize("p", [torch.full((6, 4), 0.25), torch.eye(4)[[2] * 6], torch.empty(0, 4)])
def test_none_where_all_images_are_assigned_alike(p):
    assert SoftCounts.of(p).information == pytest.approx(0, abs=1e-12)


def test_float32_is_summed_in_float64():
    p = torch.full((3_000_000, 2), 0.1)
    assert SoftCounts.of(p).mass == pytest.approx([3e6 * float(np.float32(0.1))] * 2, rel=1e-14)


def test_joining_leaves_the_parts_as_they_are():
    part = SoftCounts.of(torch.eye(3))
    SoftCounts.join([part, part])
    assert part.mass.tolist() == [1, 1, 1]
