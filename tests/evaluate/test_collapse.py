"""What is warned of, in words, and how often."""

import json

import numpy as np
import pytest
from conftest import small_settings, write_config

from ccscale.cli.main import main
from ccscale.evaluate.collapse import CollapseWatch, find_problems
from ccscale.evaluate.metrics import use


def summary(sizes: list[int], information: float | None = None) -> dict:
    found = use(np.array(sizes))
    return found if information is None else found | {"information": information}


def kinds(sizes: list[int], information: float | None = None) -> list[str]:
    return [finding.kind for finding in find_problems(summary(sizes, information))]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([100] * 10, []),
        ([30] + [5] * 14, []),  # uneven as real classes are
        ([100] * 9 + [0], ["empty"]),
        ([1000] + [1] * 9, ["swallowed"]),
        ([1000] + [0] * 9, ["empty", "swallowed"]),
        ([60, 40], []),  # of two, half is no collapse
        ([95, 5], ["swallowed"]),
        ([40, 40, 2, 2, 2, 2, 2, 2, 2, 2] * 1 + [1] * 10, []),
        ([45, 45] + [1] * 30, ["uneven"]),
        ([0] * 4, []),
    ],
)
def test_kinds(sizes, expected):
    assert kinds(sizes) == expected


def test_few_images_leave_clusters_empty_by_chance():
    """300 images in 100 even clusters leave five empty: that is no collapse; fifty are."""
    assert kinds([3] * 5 + [4] * 5 + [0] * 5 + [3] * 85) == []
    assert "empty" in kinds([6] * 50 + [0] * 50)


def test_assignments_that_tell_nothing():
    assert kinds([10] * 10, information=0.01) == ["blind"]
    assert kinds([10] * 10, information=1.0) == []


def test_sentences():
    (empty, swallowed) = find_problems(summary([0, 990, 0, 10]))
    assert empty.sentence == "2 of 4 clusters are empty: no image is assigned to them"
    assert swallowed.sentence == "cluster 1 swallows the rest: it holds 99% of all images"
    (one,) = find_problems(summary([30] * 9 + [0]))
    assert one.sentence == "1 of 10 clusters is empty: no image is assigned to it"


def test_told_once_and_again_when_it_worsens():
    watch = CollapseWatch()

    def empty(count: int) -> int:
        return len(watch.news(summary([50] * (20 - count) + [0] * count)))

    assert [empty(count) for count in (0, 2, 2, 3, 4, 5, 8, 8, 0, 2)] == [0, 1, 0, 0, 1, 0, 1, 0, 0, 1]


def test_training_warns_while_it_happens(shards, tmp_path, capfd):
    """A network that has hardly been trained uses few of its forty clusters: each evaluation says what is new."""
    settings = small_settings(
        shards,
        tmp_path / "run",
        model__clusters=40,
        train__global_batch=50,
        train__epochs=3,
    ) | {"evaluate": {"every": 1}}
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert told[0].startswith("warning: a global batch of 50 can hardly show 40 clusters")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert len(evaluations) == 3
    watch = CollapseWatch()
    expected = [f"warning: {sentence}" for line in evaluations for sentence in watch.news(line)]
    assert told[1:] == expected
    assert any("clusters are empty" in sentence for sentence in expected)
