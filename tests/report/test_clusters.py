"""What is told of each cluster, against loops that say what is meant."""

import numpy as np
import pytest
from harness.report_examples import example

from ccscale.report import clusters as module
from ccscale.report.clusters import COLOURS, MARKS, choose_images, colours, describe, nearest
from ccscale.report.inputs import Points


@pytest.mark.parametrize("seconds", [True, False])
def test_surest_and_most_doubtful(seconds):
    table = example(seconds=seconds).table
    for cluster, chosen in enumerate(choose_images(table, 12)):
        members = [i for i in range(len(table.keys)) if table.clusters[i] == cluster]
        surest = sorted(members, key=lambda i: -table.confidence[i])[:16]
        lead = table.confidence - (table.second_confidence if seconds else 0)
        others = [i for i in sorted(members, key=lambda i: lead[i]) if i not in surest][:8]
        assert chosen.surest.tolist() == surest
        assert chosen.doubtful.tolist() == others
        assert chosen.rows.tolist() == surest + others


def test_many_clusters_have_fewer_pictures(monkeypatch):
    monkeypatch.setattr(module, "TILES", 66)
    found = choose_images(example().table, 12)  # eleven of them have images: six pictures each
    assert [(len(one.surest), len(one.doubtful)) for one in found] == [(4, 2)] * 11 + [(0, 0)]
    monkeypatch.setattr(module, "TILES", 5)
    assert [len(one.rows) for one in choose_images(example().table, 12)] == [1] * 11 + [0]


def test_a_cluster_of_few_images():
    table = example(images=20).table
    for cluster, chosen in enumerate(choose_images(table, 12)):
        assert sorted(chosen.rows) == np.flatnonzero(table.clusters == cluster).tolist()


def test_figures():
    one = example()
    found = describe(one.table, one.tally, one.points)
    for cluster in range(12):
        inside = one.table.clusters == cluster
        assert found["size"][cluster] == inside.sum()
        labels = one.table.labels[inside & (one.table.labels >= 0)]
        assert found["labelled"][cluster] == len(labels)
        assert sorted(found["classes"][cluster]) == sorted(
            (int(c), int(n)) for c, n in zip(*np.unique(labels, return_counts=True), strict=True)
        )
        if inside.any():
            assert found["confidence"][cluster] == pytest.approx(
                one.table.confidence[inside].mean(), rel=1e-4
            )
            assert found["second"][cluster] == [((cluster + 1) % 12, inside.sum())]
    assert found["confidence"][11] is None
    assert found["near"][11] == []


def test_without_labels_seconds_or_features():
    one = example(labels=False, seconds=False, features=False)
    found = describe(one.table, one.tally, one.points)
    assert found.keys() == {"size", "confidence", "labelled", "classes", "colour"}
    assert sum(found["labelled"]) == 0


def test_nearest_by_features():
    one = example()
    found = nearest(one.points, one.table.clusters, 12)
    features = one.points.features.astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    own = one.table.clusters[one.points.rows]
    means = [features[own == cluster].mean(axis=0) for cluster in range(11)]
    for cluster, mean in enumerate(means):
        cosines = {
            other: mean @ others / np.linalg.norm(mean) / np.linalg.norm(others)
            for other, others in enumerate(means)
            if other != cluster
        }
        expected = sorted(cosines, key=lambda other: -cosines[other])[:5]
        assert [other for other, _ in found[cluster]] == expected
        assert [value for _, value in found[cluster]] == pytest.approx(
            [cosines[other] for other in expected], abs=1e-3
        )


def test_nearest_does_not_invent_clusters():
    points = Points(np.array([0, 1, 2]), np.eye(3, dtype=np.float16))
    assert nearest(points, np.array([2, 2, -1]), 4) == [[], [], [], []]


def test_colours_of_neighbours_differ():
    rng = np.random.default_rng(0)
    near = [[int(other) for other in rng.choice(60, 5) if other != cluster] for cluster in range(60)]
    found = colours(rng.integers(1, 9, 60), near)
    assert sorted(found) == list(range(MARKS))
    hues = [mark % COLOURS for mark in found]
    clashes = sum(hues[cluster] == hues[other] for cluster, row in enumerate(near) for other in row)
    assert clashes <= 3  # the last of the sixty get what is left
    assert sorted(colours(np.ones(COLOURS, dtype=np.int64), [[]] * COLOURS)) == list(range(COLOURS))


@pytest.mark.parametrize("count", [1, 9, 11, 25, 60])
def test_no_two_clusters_look_alike(count):
    """Even where all are near each other."""
    everybody = [[other for other in range(count) if other != cluster] for cluster in range(count)]
    for near in ([[]] * count, everybody):
        assert len(set(colours(np.arange(count), near))) == count


def test_more_clusters_than_marks_share_them_evenly():
    found = colours(np.arange(150), [[]] * 150)
    assert sorted(np.bincount(found, minlength=MARKS).tolist()) == [2] * 30 + [3] * 30
