"""The tree of clusters: against a brute force that makes every joined cluster from its images."""

import tracemalloc

import numpy as np
import pytest

from ccscale.evaluate import linkage
from ccscale.evaluate.linkage import LinkageSums, cut_sizes, cut_tree, link


def images(seed: int, n: int, k: int, d: int, used: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) soft assignments whose argmax is below `used`, and (n, d) features."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    logits[:, used:] -= 20
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), rng.normal(size=(n, d)) + p[:, :1]


def sums(p: np.ndarray, h: np.ndarray) -> LinkageSums:
    clusters = p.argmax(axis=1)
    k = p.shape[1]
    features = np.stack([h[clusters == cluster].sum(axis=0) for cluster in range(k)])
    return LinkageSums(np.bincount(clusters, minlength=k), features, p.T @ p)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length > 1e-30 else 0.0


def by_force(p: np.ndarray, h: np.ndarray) -> list[tuple[frozenset[int], float, float]]:
    """Join the best pair, remaking all centroids and joint assignments from the images each time."""
    clusters, groups = p.argmax(axis=1), [frozenset([k]) for k in range(p.shape[1])]
    found = []
    while len(groups) > 1:
        centroids, joint, sizes = [], [], []
        for group in groups:
            members = np.isin(clusters, list(group))
            sizes.append(members.sum())
            centroids.append(h[members].mean(axis=0) - h.mean(axis=0) if members.any() else 0 * h[0])
            joint.append(p[:, list(group)].sum(axis=1))
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        alike = {(a, b): (cosine(centroids[a], centroids[b]), cosine(joint[a], joint[b])) for a, b in pairs}
        empty = [number for number, size in enumerate(sizes) if size == 0]
        if empty:
            first = min(empty, key=lambda number: min(groups[number]))
            pairs = [pair for pair in pairs if first in pair]
            a, b = max(pairs, key=lambda pair: alike[pair][1])
        else:
            a, b = max(pairs, key=lambda pair: sum(alike[pair]))
        joined = groups[a] | groups[b]
        found.append((joined, *alike[a, b]))
        groups = [group for number, group in enumerate(groups) if number not in (a, b)] + [joined]
    return found


@pytest.mark.parametrize(("seed", "k", "used"), [(0, 7, 7), (1, 12, 12), (2, 9, 6), (3, 2, 2), (4, 5, 1)])
def test_against_brute_force(seed, k, used):
    p, h = images(seed, 200, k, 5, used)
    merges = link(sums(p, h))
    leaves = {cluster: frozenset([cluster]) for cluster in range(k)}
    expected = by_force(p, h)
    assert len(merges) == len(expected) == k - 1
    for number, (merge, (joined, similarity, confusion)) in enumerate(zip(merges, expected, strict=True)):
        leaves[k + number] = leaves[merge.a] | leaves[merge.b]
        assert leaves[k + number] == joined
        assert min(leaves[merge.a]) < min(leaves[merge.b])
        assert (merge.similarity, merge.confusion) == pytest.approx((similarity, confusion), abs=1e-9)
        assert merge.size == np.isin(p.argmax(axis=1), list(joined)).sum()


def whole(k: int, seed: int, d: int, ties: bool, empty: int = 0) -> LinkageSums:
    """Sums of k clusters, `empty` of them without images; of small whole numbers, where there are to be ties."""
    rng = np.random.default_rng(seed)
    sizes = 2 ** rng.integers(0, 3, k)
    sizes[rng.permutation(k)[:empty]] = 0
    if ties:
        features, p = rng.integers(-2, 3, (k, d)).astype(float), rng.integers(0, 3, (3 * k, k)).astype(float)
    else:
        features, p = rng.normal(size=(k, d)), rng.random((3 * k, k)) ** 8
    return LinkageSums(sizes, features * sizes[:, None], p.T @ p)


def by_all_scores(sums: LinkageSums) -> list[tuple[int, int]]:
    """Join the best pair, the first of equals, looking at all scores of all pairs each time."""
    k = len(sums.sizes)
    sizes, overlap = sums.sizes.copy(), sums.overlap.copy()
    vectors = sums.features - sizes[:, None] * (sums.features.sum(axis=0) / sizes.sum())
    left, names, found = list(range(k)), list(range(k)), []
    for number in range(k - 1):
        lengths = np.linalg.norm(vectors, axis=1)
        weights = np.diagonal(overlap)
        confusion = overlap / np.sqrt(np.maximum(weights[:, None] * weights, 1e-300))
        scores = vectors @ vectors.T / np.maximum(lengths[:, None] * lengths, 1e-300) + confusion
        empty = [i for i in left if sizes[i] == 0]
        if empty:
            a = empty[0]
            b = max((i for i in left if i != a), key=lambda i: (confusion[a, i], -i))
        else:
            pairs = [(a, b) for place, a in enumerate(left) for b in left[place + 1 :]]
            a, b = max(pairs, key=lambda pair: (scores[pair], -pair[0], -pair[1]))
        a, b = min(a, b), max(a, b)
        found.append((names[a], names[b]))
        names[a] = k + number
        left.remove(b)
        for sums_of in (sizes, vectors, overlap, overlap.T):
            sums_of[a] += sums_of[b]
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_against_all_scores(seed, ties, monkeypatch):
    """Of many clusters: nodes are moved, bounds are kept, ties are broken."""
    monkeypatch.setattr(linkage, "SMALL", 8)
    k = 20 + 7 * seed
    expected = by_all_scores(whole(k, seed, 2, ties, empty=seed % 3))
    merges = link(whole(k, seed, 2, ties, empty=seed % 3))
    assert [(merge.a, merge.b) for merge in merges] == expected


@pytest.mark.parametrize("seed", range(5))
def test_clusters_that_cancel_out_are_like_nothing(seed):
    """Three clusters whose centroids lie around the mean: of the joined one's nothing is left but rounding."""
    rng = np.random.default_rng(seed)
    a, b, c = 1e6 * rng.normal(size=(3, 8))
    features = np.stack([a, b, -(a + b), c, -c])
    overlap = np.eye(5)
    overlap[:3, :3] += 9 * (1 - np.eye(3))  # more alike than any can be: they come first
    merges = link(LinkageSums(np.ones(5, dtype=np.int64), features, overlap))
    assert [merge.size for merge in merges[:2]] == [2, 3]
    assert all(abs(merge.similarity) < 1 + 1e-9 for merge in merges)


def hub(k: int) -> LinkageSums:
    """Clusters that are all most confused with the first."""
    rng = np.random.default_rng(0)
    p = np.eye(k) + 0.001 * rng.random((k, k))
    p[:, 0] = 0.6
    return LinkageSums(np.ones(k, dtype=np.int64), rng.normal(size=(k, 16)), p.T @ p)


@pytest.mark.parametrize("made", [hub, lambda k: whole(k, 0, 16, ties=False)], ids=["hub", "random"])
def test_few_rows_are_looked_at(made, monkeypatch):
    """Each costs K: were all looked at again whose nearest was joined, a hub would cost K³."""
    calls = []
    plain = linkage._Nodes.scores
    monkeypatch.setattr(linkage._Nodes, "scores", lambda self, i: calls.append(i) or plain(self, i))
    k = 400
    link(made(k))
    assert len(calls) <= 6 * k


def test_memory_is_that_of_two_tables():
    k = 700
    sums = whole(k, 0, 16, ties=False)
    tracemalloc.start()
    try:
        link(sums)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (
        peak < 1.6 * 8 * k * k
    )  # beside the overlap that is there: the products, a quarter while nodes are moved


@pytest.mark.parametrize("k", range(1, 10))
def test_cut(k):
    p, h = images(2, 100, 9, 4, 9)
    merges = link(sums(p, h))
    groups = cut_tree(merges, k)
    assert sorted(set(groups.tolist())) == list(range(k))
    first = [groups.tolist().index(group) for group in range(k)]
    assert first == sorted(first)
    if k == 9:
        assert groups.tolist() == list(range(9))
    if k > 1:  # cuts are nested
        coarser = cut_tree(merges, k - 1)
        assert len(set(zip(groups.tolist(), coarser.tolist(), strict=True))) == k


def test_twins_are_joined_first():
    """Two clusters that share one class: their images are near, and the head takes both for possible."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 300)
    h = np.eye(3)[classes] + 0.05 * rng.normal(size=(300, 3))
    p = np.full((300, 4), 0.01)
    p[np.arange(300), classes] = 0.97
    twins = classes == 2
    p[twins] = np.where(
        rng.random((twins.sum(), 1)) < 0.5, [[0.01, 0.01, 0.6, 0.38]], [[0.01, 0.01, 0.38, 0.6]]
    )
    merge, *_ = link(sums(p, h))
    assert (merge.a, merge.b) == (2, 3)
    assert merge.score > 0.9


@pytest.mark.parametrize(
    ("used", "first", "count"), [(5, 5, 4), (64, 64, 63), (1000, 1000, 64), (2, 2, 1), (1, 0, 0)]
)
def test_which_cuts_are_looked_at(used, first, count):
    found = cut_sizes(used)
    assert len(found) == len(set(found)) <= count
    assert found == sorted(found, reverse=True)
    assert (found[0] if found else 0) == first
    assert set(range(2, min(used, 32) + 1)) <= set(found)
