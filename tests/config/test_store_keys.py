"""The keys of a run on a feature store."""

import pytest
from harness.configs import LEAST, refusal

from ccscale.config.file import parse_config

STORE = {"data": {"features": "store"}, "model": {"clusters": 10}}
ONE = (
    "in 'data', either data.shards, a folder of shards, or data.features, a feature store made by "
    "`ccscale embed`, is needed, and "
)


def test_a_store_in_place_of_shards():
    config = parse_config(STORE, ["pairs.of=both", "pairs.neighbours=20"])
    assert (config.data.place, config.data.shards) == ("store", None)
    assert parse_config(LEAST).data.place == "here"


@pytest.mark.parametrize(
    ("settings", "overrides", "sentence"),
    [
        (LEAST, ["data.features=store"], ONE + "both are given (data.shards=null leaves one out)"),
        (LEAST, ["data.shards=null"], ONE + "neither is given"),
        (
            LEAST,
            ["pairs.of=neighbours"],
            "pairs.of is neighbours, and neighbours come from a feature store: set data.features "
            "instead of data.shards (`ccscale embed SHARDS STORE --neighbours 50` makes a store), or "
            "leave it out",
        ),
        (
            STORE,
            ["pairs.neighbours=5"],
            "pairs.neighbours needs pairs.of neighbours or both, and pairs.of is views",
        ),
    ],
)
def test_refusals(settings, overrides, sentence):
    assert refusal(*overrides, settings=settings).endswith(f": {sentence}")
