"""A run's schedule: a function of plain values, without files, engines or process groups."""

from typing import Any, NamedTuple

import pytest

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.order.run import make_schedule
from ccscale.errors import InputError


class Sizes(NamedTuple):
    split: str
    nsamples: int
    filesize: int


SHARDS = [
    Sizes("unlabeled", 60, 60 * 20_000),
    Sizes("train", 30, 30 * 20_000),
    Sizes("unlabeled", 60, 60 * 20_000),
]
BOTH = ["unlabeled", "train"]
PHASES = [{"splits": ["unlabeled"], "losses": ["instance"]}, {"splits": ["train"]}]


def config(**data: Any) -> Config:
    data = {"shards": "nowhere", "lanes": 4, **data}
    settings = {"data": data, "model": {"clusters": 4}, "views": {"size": 16}, "train": {"global_batch": 16}}
    return parse_config(settings)


def test_it_is_the_same_for_every_number_of_ranks():
    assert make_schedule(config(splits=BOTH), SHARDS, 1) == make_schedule(config(splits=BOTH), SHARDS, 4)
    with pytest.raises(InputError, match="3 ranks do not divide the 4 lanes"):
        make_schedule(config(splits=BOTH), SHARDS, 3)


def test_a_phase_has_the_samples_of_its_splits_by_their_numbers_in_all():
    first, second = make_schedule(config(phases=PHASES), SHARDS, 2).phases
    assert (first.shard_sizes, first.firsts) == ((60, 60), (0, 90))
    assert (second.shard_sizes, second.firsts) == ((30,), (60,))


def test_a_batch_needs_one_block_of_a_lane():
    """Four samples of each lane are in a batch: a block is a multiple of that, or a part where it is smaller."""
    blocks = {
        size: make_schedule(config(block_bytes=size, splits=BOTH), SHARDS, 1).phases[0].block
        for size in (65_536, 100_000, 200_000)
    }
    assert blocks == {65_536: 3, 100_000: 4, 200_000: 8}


def test_too_few_images_are_refused():
    train = config(splits=BOTH).train.model_copy(update={"global_batch": 512})
    large = config(splits=BOTH).model_copy(update={"train": train})
    with pytest.raises(InputError, match=r"have only 150 images, .*set train\.global_batch to at most 150"):
        make_schedule(large, SHARDS, 1)
