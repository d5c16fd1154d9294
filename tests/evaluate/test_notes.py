"""What a reader should know about the data, in sentences."""

import pytest

from ccscale.evaluate import notes


@pytest.mark.parametrize(
    ("name", "own", "same", "expected"),
    [
        ("pets", "pets", True, []),
        ("pets", None, False, []),
        ("cars", "pets", False, ["these are shards of the data set 'cars'; the run was trained on 'pets'"]),
        (
            "pets",
            "pets",
            False,
            ["these are other shards of the data set 'pets' than those that the run was trained on"],
        ),
    ],
)
def test_other_data(name, own, same, expected):
    assert notes.other_data(name, own, same) == expected


def test_labels_that_are_missing_and_classes_that_do_not_occur():
    assert notes.labels(10, 10, [0, 1], ("cat", "dog")) == []
    assert notes.labels(10, 0, [], ("cat", "dog")) == []  # there are none at all: that is told elsewhere
    missing, absent = notes.labels(5000, 3797, [1, 3], ("cat", "dog", "eel", "fox"))
    assert missing == "1,203 of 5,000 images have no label; the scores are over the other 3,797"
    assert absent == "2 of the 4 classes do not occur here: cat, eel"


def test_one_is_singular():
    missing, absent = notes.labels(2, 1, [0], ("cat", "dog"))
    assert missing == "1 of 2 images has no label; the scores are over the other 1"
    assert absent == "1 of the 2 classes does not occur here: dog"


@pytest.mark.parametrize(
    ("images", "undecodable", "labels", "expected"),
    [
        (5, 0, 0, "There are no labels"),
        (5, 2, 0, "There are no labels"),
        (5, 2, 2, "Of 2 images with a label none can be decoded"),
        (0, 2, 2, "None of the images can be decoded"),
        (0, 2, 0, "None of the images can be decoded"),
        (0, 0, 0, "There are no images"),
    ],
)
def test_why_nothing_is_scored(images, undecodable, labels, expected):
    found = notes.unscored(images, undecodable, labels)
    assert found == f"{expected}: ACC, NMI, ARI and F cannot be measured."


def test_many_absent_classes_are_not_all_named():
    (absent,) = notes.labels(1, 1, [0], [f"c{i}" for i in range(30)])
    assert absent.startswith("29 of the 30 classes do not occur here: c1, c2,")
    assert absent.endswith("c10, …")
