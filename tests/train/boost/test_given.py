"""Labels that a user gives: matched with clusters, and lasting beside those that a run finds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_boost_run import BEGIN, STOP, remembered, settings_of, store  # noqa: F401

from ccscale.config.file import parse_config
from ccscale.config.stages import Boost
from ccscale.errors import InputError
from ccscale.train.boost.given import GivenClasses
from ccscale.train.boost.labels import LastingLabels
from ccscale.train.train import train_run


def test_classes_are_matched_with_clusters() -> None:
    found = np.array([0, 0, 1, 1, 2, 2, -1, 3, 0])
    samples, classes = np.arange(9), np.array([0, 0, 0, 0, 1, 0, 1, 2, 2])
    # 0 and 1 are of class 0, matched one-to-one with one of them; 2 of class 1; 3 of class 2.
    given = GivenClasses(samples, classes).clusters(found, 4)
    assert given[[0, 1, 2, 3]].tolist() == [0, 0, 1, 1]
    assert given[4] == given[6] == 2
    assert given[5] in (0, 1)
    assert given[[7, 8]].tolist() == [3, 3]


def test_a_class_without_a_cluster_has_no_label() -> None:
    assert GivenClasses(np.arange(3), np.array([0, 0, 1])).clusters(np.zeros(3, np.int64), 1).tolist() == [
        0,
        0,
        -1,
    ]


def test_given_labels_stay() -> None:
    memory = LastingLabels(4, 2, Boost(threshold=0.9), torch.device("cpu"))
    samples, sure = torch.arange(4), torch.ones(4)
    memory.take(samples, sure, torch.tensor([0, 0, 1, 1]))
    memory.compare_from_here()
    memory.give(GivenClasses(np.array([1, 2, 3]), np.array([0, 1, 1])))
    assert memory.given.tolist() == [-1, 0, 1, 1]
    assert memory.take(samples, 0 * sure, torch.tensor([0, 1, 0, 0])).tolist() == [-1, 0, 1, 1]


def test_nothing_is_known_of_images_that_come_later() -> None:
    """Nor are they given labels before they are there."""
    memory = LastingLabels(2, 2, Boost(threshold=0.9), torch.device("cpu"))
    memory.take(torch.arange(2), torch.ones(2), torch.tensor([0, 1]))
    memory.compare_from_here()
    memory.give(GivenClasses(np.array([0, 3]), np.array([1, 0])))
    before = {name: kept.tolist() for name, kept in {**memory.state(), "given": memory.given}.items()}
    for images in (4, 3):  # the numbers never become fewer
        memory.hold(images)
        now = {**memory.state(), "given": memory.given}
        assert {name: kept.tolist() for name, kept in now.items()} == {
            name: [*kept, -1, -1] for name, kept in before.items()
        }


def test_a_run_trains_on_them_and_goes_on_with_them(store: Path, tmp_path: Path) -> None:  # noqa: F811
    few = tmp_path / "few.csv"
    rows = "".join(f"key-{i:08d},kind {i % 4}\n" for i in range(0, 100, 5))
    few.write_text(f"key,class\n{rows}nobody,kind 0\n")
    settings = settings_of(store, tmp_path / "run", labels=str(few), epochs=3)
    for last in (BEGIN + 3, STOP - 6):
        settings["train"]["max_steps"] = last
        assert train_run(parse_config(settings)).finished
    kept = remembered(tmp_path / "run")
    given, labels = kept["given"], kept["labels"]
    assert int((given >= 0).sum()) == 20
    seen = (given >= 0) & (kept["clusters"] >= 0)
    assert torch.equal(labels[seen], given[seen])
    (tmp_path / "others.csv").write_text("key,class\nnobody,cat\n")
    settings = settings_of(store, tmp_path / "other", labels=str(tmp_path / "others.csv"))
    with pytest.raises(InputError, match=r"stages.boost.labels\) is of an image that is trained on"):
        train_run(parse_config(settings))
