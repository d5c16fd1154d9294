"""When a stage ends, and which of its checks serves."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from ccscale.config.stages import Boost
from ccscale.train.boost.guards import Check, best, of_labels, reason_to_end, reason_to_wait

BEFORE = Check(10, 0.4, 1, 1.0, 0.8, 0.7, 9.5)


def after(**changes: Any) -> Check:
    return BEFORE._replace(**{"step": 20, "agreement": 0.9} | changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"labelled": 0.0}, "no image is so surely in its cluster (stages.boost.threshold 0.99)"),
        ({"effective_clusters": 5.0}, "as if there were 5.0 of equal size, and 9.5 before it"),
        ({"effective_clusters": 8.0}, None),
        ({"agreement": 0.4}, "others than before it (agreement 0.40)"),
        ({"neighbours": 0.66}, "fewer neighbours together than before it (kappa 0.66, and 0.70 before)"),
        ({"neighbours": 0.68}, None),
        ({"stability": 0.63}, "less stable than before it (0.63, and 0.80 before)"),
        ({"stability": 0.66}, None),
        ({"stability": None}, None),
    ],
)
def test_why_it_ends(changes: dict[str, Any], why: str | None) -> None:
    found = reason_to_end([BEFORE, after(**changes)], Boost(), 10)
    assert found is None if why is None else why in str(found)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"labelled": 0.0}, "no image is so surely in its cluster"),
        (
            {"labelled": 0.008},
            "only 0.8% of the images are so surely in their clusters that they have a label",
        ),
        ({"unlabelled_clusters": 6}, "only 4 of 10 clusters have an image that is surely in them"),
        ({"unlabelled_clusters": 5}, None),
    ],
)
def test_what_there_must_be_to_learn_from(changes: dict[str, Any], why: str | None) -> None:
    """Before it trains; later it does not end for that."""
    first = BEFORE._replace(**changes)
    found = reason_to_end([first], Boost(), 10)
    assert found is None if why is None else why in str(found)
    calibrated = reason_to_end([first], Boost(selection="calibrated"), 10)
    assert (calibrated is None) == (why is None)
    assert "threshold" not in str(calibrated)
    if first.labelled:
        assert reason_to_end([first, first], Boost(), 10) is None


@pytest.mark.parametrize(
    ("without", "why"), [(0, None), (1, "only 9 of 10 clusters"), (2, "only 8 of 10 clusters")]
)
def test_all_clusters_in_use_have_labels_where_the_cross_entropy_is_alone(
    without: int, why: str | None
) -> None:
    now = after(agreement=0.97, unlabelled_clusters=without)
    for used in (9.6, 10.0):
        found = reason_to_wait([BEFORE, now._replace(effective_clusters=used)], Boost(), 10, 0)
        assert found is None if why is None else why in str(found)
    assert reason_to_wait([BEFORE, now], Boost(), 10, 1) is None
    assert reason_to_end([now], Boost(), 10) is None  # it does not wait, as asked
    in_use = now._replace(effective_clusters=8.3)  # two of ten are hardly used
    assert reason_to_wait([BEFORE, in_use], Boost(), 10, 0) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"agreement": 0.97}, None),
        ({"agreement": 0.92}, None),
        ({"agreement": 0.97, "neighbours": 0.75}, None),
        ({"agreement": 0.92, "neighbours": 0.702}, None),
        (
            {"agreement": 0.92, "neighbours": 0.71},
            "changes the clusters (kappa of neighbours 0.700 and now 0.710; agreement 0.920 with the check before",
        ),
        ({"agreement": 0.97, "unlabelled_clusters": 6}, "only 4 of 10 clusters"),
        ({"agreement": 0.97, "labelled": 0.0}, "only 0.0% of the images"),
    ],
)
def test_why_it_waits(changes: dict[str, Any], why: str | None) -> None:
    found = reason_to_wait([BEFORE, after(**changes)], Boost(), 10, 1)
    assert found is None if why is None else why in str(found)


def test_neighbours_by_features_that_are_trained_do_not_let_it_begin() -> None:
    found = reason_to_wait([BEFORE, after(agreement=0.92)], Boost(), 10, 1, same=False)
    assert "still changes the clusters (agreement 0.920" in str(found)
    assert reason_to_wait([BEFORE, after(agreement=0.97)], Boost(), 10, 1, same=False) is None


def test_it_waits_for_a_second_check() -> None:
    assert "is not known before the next check" in str(reason_to_wait([BEFORE], Boost(), 10, 1))


def test_the_last_serves_that_keeps_as_many_neighbours_together_as_any() -> None:
    checks = [
        BEFORE,
        after(step=11, neighbours=0.71),
        after(step=20, neighbours=0.75),
        after(step=30, neighbours=0.748, stability=0.7),
    ]
    assert best(checks).step == 30
    assert best([*checks, after(step=40, neighbours=0.74)]).step == 30
    early = after(step=11, neighbours=0.8)  # an epoch after it began: as it was before
    assert best([BEFORE, early, *checks[2:]]).step == 30
    assert best([BEFORE, early]) is early


def test_the_clusters_before_serve_where_it_was_ended() -> None:
    """They keep more neighbours together, whose features they were made of."""
    of_steps = {11: 0.695, 20: 0.69, 30: 0.68}
    checks = [BEFORE, *(after(step=step, neighbours=kappa) for step, kappa in of_steps.items())]
    assert best(checks).step == 20
    assert best(checks, ended=True) is BEFORE
    assert best(checks[:1]) is BEFORE


def test_the_figures_of_what_is_remembered() -> None:
    rng = np.random.default_rng(0)
    before, clusters = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    clusters[:30] = before[:30]
    before[40:] = clusters[45:] = -1  # not looked at
    labels = np.where(rng.random(50) < 0.5, clusters, -1)
    labels[labels == 2] = -1
    found = of_labels(labels, clusters, before, 4)
    assert found["agreement"] == pytest.approx(cohen_kappa_score(before[:40], clusters[:40]))
    assert found["labelled"] == (labels[:40] >= 0).mean()
    assert found["unlabelled_clusters"] == 2
    nothing = np.full(5, -1)
    assert of_labels(nothing, nothing, nothing, 2) == {
        "labelled": 0.0,
        "unlabelled_clusters": 2,
        "agreement": 0.0,
    }
    all_in_one = np.zeros(5, np.int64)
    assert of_labels(nothing, all_in_one, all_in_one, 2)["agreement"] == 1  # not 0, as if others had come
