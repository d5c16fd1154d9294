"""What has no meaning, or no length, where data grow, is refused by name."""

import pytest
from harness.configs import LEAST, refusal

from ccscale.config.file import parse_config

STORE = {"data": {"features": "store"}, "model": {"clusters": 10}}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.refresh=epochs"], "data.refresh"),
        (["data.refresh=0"], "data.refresh"),
        (["data.refresh=100"], "data.refresh 100 may end epochs early"),
        (["data.refresh=epoch", "train.schedule=cosine"], "train.schedule cosine needs the length of"),
        (
            ["data.refresh=100", "train.max_steps=9", "stages.boost.epochs=2"],
            "stages.boost counts in epochs, which grow with the data",
        ),
        (
            ["data.refresh=epoch", "data.vanished=retire", "stages.boost.epochs=2"],
            "stages.boost compares clusters on the images it started with",
        ),
    ],
)
def test_what_has_no_length(overrides, sentence):
    assert sentence in refusal(*overrides)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["pairs.of=neighbours"], "but pairs.of is neighbours, which needs neighbours"),
        (["model.begin=[smoothed]"], "but model.begin is smoothed, which needs neighbours"),
        (["data.vanished=retire"], "a feature store keeps the features of all its shards"),
    ],
)
def test_what_a_store_that_grows_cannot_have(overrides, sentence):
    assert sentence in refusal("data.refresh=epoch", *overrides, settings=STORE)


def test_what_goes():
    for overrides in (
        ["data.refresh=epoch", "stages.boost.epochs=2"],
        ["data.refresh=100", "train.max_steps=1000", "train.schedule=wsd", "data.vanished=retire"],
    ):
        parse_config(LEAST, overrides)
    parse_config(STORE, ["data.refresh=epoch", "model.begin=[features]"])
