"""The picture of a tree: a line a cluster, joined without crossings, the top alone where there are many."""

import numpy as np
import pytest
from PIL import Image

from ccscale.draw.canvas import MARGIN, TITLE
from ccscale.draw.dendrogram import LINE, MAX_LEAVES, ROW, draw_dendrogram

Tree = tuple[np.ndarray, np.ndarray]  # the nodes that are joined, and how alike they are


def chain(k: int) -> Tree:
    """Join 0 and 1, then 2 to them, and so on."""
    joined = np.array([(0 if n == 0 else k + n - 1, n + 1) for n in range(k - 1)])
    return joined, 1 - np.arange(1, k) / k


def drawn(path, tree: Tree) -> tuple[np.ndarray, list[list[int]]]:
    described: list[list[int]] = []

    def describe(clusters: list[int]) -> str:
        described.append(clusters)
        return f"{clusters[0]}"

    draw_dendrogram(path, "clusters", *tree, describe)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    with Image.open(path) as picture:
        return np.array(picture), described


def crossings(pixels: np.ndarray, column: int) -> int:
    """Count the lines that cross a column of pixels."""
    blue = (pixels[:, column] == LINE).all(axis=1).astype(int)
    return int((np.diff(blue, prepend=0) == 1).sum())


@pytest.mark.parametrize("k", [2, 3, 9])
def test_a_line_a_cluster_on_the_left_and_one_less_for_each_merge(tmp_path, k):
    pixels, described = drawn(tmp_path / "tree.png", chain(k))
    assert described == [[cluster] for cluster in range(k)]
    assert len(pixels) == 2 * MARGIN + 2 * TITLE + k * ROW
    blue = (pixels == LINE).all(axis=2)
    first = int(np.flatnonzero(blue.any(axis=0))[0])
    last = int(np.flatnonzero(blue.any(axis=0))[-1])
    assert crossings(pixels, first) == k
    counts = [crossings(pixels, column) for column in range(first + 3, last - 2)]
    inside = [count for count in counts if count > 1]
    assert inside == sorted(inside, reverse=True)
    assert set(inside) <= set(range(1, k + 1))


def test_a_merge_that_is_more_alike_than_one_before_goes_straight_up(tmp_path):
    pixels, _ = drawn(tmp_path / "tree.png", (np.array([(0, 1), (3, 2)]), np.array([0.2, 0.9])))
    assert ((pixels == LINE).all(axis=2)).any()


def test_of_many_clusters_the_top_is_drawn(tmp_path):
    k = MAX_LEAVES + 50
    pixels, described = drawn(tmp_path / "tree.png", chain(k))
    assert len(described) == MAX_LEAVES
    assert described[0] == list(range(51))
    assert sorted(cluster for clusters in described for cluster in clusters) == list(range(k))
    assert len(pixels) == 2 * MARGIN + 2 * TITLE + MAX_LEAVES * ROW
