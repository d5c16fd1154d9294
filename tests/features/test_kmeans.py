"""k-means finds what scikit-learn's finds, within bounds of memory, and the same on any number of ranks."""

import numpy as np
import pytest
import torch
from harness.ranks import run_ranks
from harness.stores import make_store
from sklearn.cluster import KMeans

from ccscale import open_features
from ccscale.errors import InputError
from ccscale.features import kmeans, lloyd
from ccscale.features.kmeans import k_means, work_of
from ccscale.features.vectors import Vectors


def blobs(seed: int, count: int, k: int = 8, width: int = 16, spread: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(k, width))
    return (centres[rng.integers(0, k, count)] + spread * rng.normal(size=(count, width))).astype(np.float32)


def pairs_alike(first: np.ndarray, second: np.ndarray) -> float:
    return float(((first[:, None] == first) == (second[:, None] == second)).mean())


def test_as_good_as_scikit_learn():
    features = blobs(0, 1500, k=12, spread=2.5)
    found = k_means(features, 12)
    other = KMeans(12, n_init=10, random_state=0).fit(features)
    assert found.inertia <= other.inertia_ * 1.005
    assert np.bincount(found.clusters, minlength=12).min() > 0
    exact = np.linalg.norm(features[:, None].astype(np.float64) - found.centres, axis=2)
    assert (found.clusters == exact.argmin(1)).mean() > 0.999
    assert np.allclose(found.distances, exact.min(1), atol=1e-4)
    again = k_means(features, 12)
    assert np.array_equal(again.centres, found.centres)
    assert not np.array_equal(k_means(features, 12, seed=1).centres, found.centres)  # in another order


def test_spherical_looks_at_directions_alone():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    features = (np.eye(8)[labels] + 0.05 * rng.normal(size=(600, 8))) * rng.uniform(0.1, 50, (600, 1))
    found = k_means(features.astype(np.float32), 3, spherical=True)
    assert pairs_alike(found.clusters, labels) == 1
    assert np.allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-6)
    assert found.inertia == pytest.approx(2 * (1 - _cosines(features, found)).sum(), rel=1e-4)


def _cosines(features: np.ndarray, found: kmeans.Means) -> np.ndarray:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return (unit * found.centres[found.clusters]).sum(1)


def test_what_is_more_than_the_sample_is_gone_over_block_by_block(monkeypatch):
    features = blobs(1, 4000)
    whole = k_means(features, 8)
    monkeypatch.setattr(kmeans, "SAMPLE_BYTES", 500 * 16 * 4)
    monkeypatch.setattr(lloyd, "BLOCK", 300)
    monkeypatch.setattr(lloyd, "SCORES", 8 * 70)
    parts = k_means(features, 8)
    assert parts.inertia == pytest.approx(whole.inertia, rel=1e-3)
    assert pairs_alike(parts.clusters[:500], whole.clusters[:500]) > 0.999


def test_work_is_bounded():
    """Of a million rows of width 768 in a thousand clusters: known beforehand, and what a plan is made of."""
    work = work_of(1_000_000, 768, 1000)
    assert (work.starts, work.sample, work.sample_passes, work.passes) == (1, 174_762, 32, 11)
    assert work.first_rows == 16_384
    small = work_of(8000, 128, 16)
    assert (small.starts, small.sample, small.sample_passes, small.passes) == (40, 8000, 100, 0)
    assert work_of(10**9, 768, 1000).passes == 2


def test_no_cluster_stays_empty():
    """As k-means++ takes one of few places twice, and equals fall to the first."""
    features = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    found = k_means(features, 4)
    assert sorted(np.bincount(found.clusters)) == [5, 5, 5, 5]
    assert found.inertia == pytest.approx(0, abs=1e-6)
    rows = blobs(2, 60, k=1)
    counts = torch.tensor([60, 0, 0])
    sums = torch.tensor(rows, dtype=torch.float64).sum(0).repeat(3, 1) * torch.tensor([[1], [0], [0]])
    moved = lloyd._moved(sums, counts, torch.zeros(3, 16), spherical=False)
    assert len({tuple(centre) for centre in moved.tolist()}) == 3


def test_bad_rows_are_left_out(tmp_path):
    features = blobs(3, 300)
    store = make_store(tmp_path / "store", [features, features[::-1].copy()], bad=[5, 250])
    vectors = Vectors.of_store(store)
    assert len(vectors) == 298
    assert 5 not in vectors.numbers
    found = k_means(vectors, 8)
    assert np.array_equal(found.centres, k_means(np.delete(features, [5, 250], axis=0), 8).centres)
    both = Vectors.of_store(store, None).take(np.array([0])).numpy()
    ends = features[[0, 299]] / np.linalg.norm(features[[0, 299]], axis=1, keepdims=True)
    assert np.allclose(both, ends.mean(0), atol=1e-6)


def test_more_clusters_than_images():
    with pytest.raises(InputError) as refused:
        k_means(blobs(0, 5), 6)
    assert str(refused.value) == "5 images are too few for 6 clusters: use fewer"


def test_no_numbers():
    features = blobs(0, 50)
    features[7, 3] = np.nan
    with pytest.raises(InputError, match="are not finite"):
        k_means(features, 3)


def of_rank(rank: int, folder: str) -> list[np.ndarray]:
    lloyd.BLOCK = 128
    torch.set_num_threads(1)
    vectors = Vectors.of_store(open_features(folder))
    found = [k_means(vectors, 8, seed, spherical=spherical) for seed, spherical in ((0, False), (1, True))]
    kmeans.SAMPLE_BYTES = 500 * 16 * 4
    found.append(k_means(vectors, 8))
    return [array for one in found for array in (one.centres, one.clusters, one.distances)]


@pytest.mark.dist
@pytest.mark.slow
def test_any_number_of_ranks_finds_the_same_bytes(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    make_store(folder, blobs(4, 1100, spread=2.0), shards=3, dtype="float16")
    monkeypatch.setattr(lloyd, "BLOCK", 128)
    monkeypatch.setattr(kmeans, "SAMPLE_BYTES", kmeans.SAMPLE_BYTES)
    alone = [array.tobytes() for array in of_rank(0, str(folder))]
    for rank in run_ranks(3, of_rank, str(folder)):
        assert [array.tobytes() for array in rank] == alone
