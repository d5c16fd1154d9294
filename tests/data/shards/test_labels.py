"""One rule for labels, wherever they are written."""

import decimal

import pytest

from ccscale.config import MOST_CLASSES
from ccscale.data.shards.labels import LONGEST, LabelError, Labels, as_text


def understood(values, before=None):
    texts = [as_text(value) for value in values]
    labels = Labels.of(texts, before)
    numbers = labels.numbers(texts)
    return [numbers[text] for text in texts], labels.classes, labels.named


THREE = ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "expected", "classes", "named"),
    [
        (["2", "", "0"], [2, -1, 0], THREE, False),
        (["2.0", "nan", "0.0"], [2, -1, 0], THREE, False),
        ([2.0, float("nan"), 0.0], [2, -1, 0], THREE, False),
        ([2, None, 0], [2, -1, 0], THREE, False),
        ([b"2\n", b" -1 \r\n", b"+0"], [2, -1, 0], THREE, False),
        ([decimal.Decimal("2"), -1, 0], [2, -1, 0], THREE, False),
        (["0", "NA", "2"], [0, -1, 2], THREE, False),
        (["1e0", "-1.0", "2."], [1, -1, 2], THREE, False),
        ([str(MOST_CLASSES - 1)], [MOST_CLASSES - 1], tuple(map(str, range(MOST_CLASSES))), False),
        (["NA", "null", "", "NaN", "None", "-1"], [-1] * 6, (), False),
        (["dog", "NA", "cat", "dog"], [1, -1, 0, 1], ("cat", "dog"), True),
        (["none", "na", "cat"], [2, 1, 0], ("cat", "na", "none"), True),
        ([True, False, None], [1, 0, -1], ("False", "True"), True),
        (["true", "false"], [1, 0], ("false", "true"), True),
        (["01", "2", "01"], [0, 1, 0], ("01", "2"), True),
        (["1.5", "cat"], [0, 1], ("1.5", "cat"), True),
        (["99999999", "cat"], [0, 1], ("99999999", "cat"), True),
        ([" cat", "cat ", "Cat"], [1, 1, 0], ("Cat", "cat"), True),
        (["1_0", "1"], [1, 0], ("1", "1_0"), True),
    ],
)
def test_what_labels_mean(values, expected, classes, named):
    assert understood(values) == (expected, classes, named)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1.5", "2"], "the label '1.5' is not an integer"),
        ([1.5, 2.0], "the label '1.5' is not an integer"),
        (["inf", "2"], "the label 'inf' is not an integer"),
        ([float("-inf")], "the label '-inf' is not an integer"),
        (
            ["-2", "0"],
            "the label '-2' is not from 0 to 1,048,575: labels count classes from 0; for an unknown "
            "class use -1 or leave",
        ),
        ([MOST_CLASSES], "the label '1048576' is not from 0 to 1,048,575"),
        (["99999999"], "the label '99999999' is not"),
        (["9" * 900], "is not an integer|is not from 0"),
        ([[0]], r"the label '\[0\]' is neither a text nor a number"),
        ([b"caf\xe9"], "is no text in UTF-8"),
        (["x" * (LONGEST + 1)], "more than 1,000 characters"),
    ],
)
def test_what_is_no_label(values, message):
    with pytest.raises(LabelError, match=message):
        understood(values)


def test_names_of_images_are_no_classes(monkeypatch):
    monkeypatch.setattr("ccscale.data.shards.labels.MOST_CLASSES", 10)
    with pytest.raises(LabelError, match="the label 'n9' is one of 11 different ones"):
        understood([f"n{i}" for i in range(10)] + ["a"])


def test_classes_keep_their_labels_when_others_join():
    cats = Labels(("tabby", "lynx"), True)
    assert understood(["lynx", "ocelot", "NA", "caracal"], cats) == (
        [1, 3, -1, 2],
        ("tabby", "lynx", "caracal", "ocelot"),
        True,
    )
    assert understood(["7"], cats) == ([2], ("tabby", "lynx", "7"), True)
    known = Labels(("zero", "one"), False)
    assert understood(["1"], known) == ([1], ("zero", "one"), False)
    assert understood(["2"], known) == ([2], ("zero", "one", "2"), False)
    assert understood(["cat"], Labels((), False)) == ([0], ("cat",), True)
    with pytest.raises(LabelError, match="the label 'cat' is not a number, unlike the other labels"):
        understood(["cat"], known)


def test_a_text_that_is_none_of_the_labels():
    with pytest.raises(LabelError, match="'dog' is not one of the data set's classes"):
        Labels(("cat",), True).numbers(["cat", "dog"])
