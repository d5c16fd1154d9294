"""Which numbers divide each other, and the sentences that refuse those that do not."""

from typing import Any

import pytest

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.plan.fit import check_division, largest_batch, with_batch


def division(world: int, **keys: Any) -> str:
    """Return the sentence that refuses a number of ranks."""
    train = {key: value for key, value in keys.items() if key != "lanes"}
    data = {"shards": "x"} | ({"lanes": keys["lanes"]} if "lanes" in keys else {})
    with pytest.raises(ValueError) as error:
        check_division(parse_config({"data": data, "model": {"clusters": 2}, "train": train}), world)
    return str(error.value)


def test_ranks_that_do_not_divide_the_lanes():
    assert division(6, global_batch=256) == (
        "6 ranks do not divide the 64 lanes of this run; the nearest that do are 4 or 8, or keep 6 ranks and "
        "set train.global_batch=240 or train.global_batch=270"
    )


@pytest.mark.parametrize("batch", [240, 270])
def test_the_batches_that_it_names_do(batch):
    config = parse_config(
        {"data": {"shards": "x"}, "model": {"clusters": 2}, "train": {"global_batch": batch}}
    )
    check_division(config, 6)


def test_more_ranks_than_lanes_by_default():
    assert division(128, global_batch=1024).endswith(
        "the nearest that do are 64, or keep 128 ranks and set data.lanes=128"
    )


def test_lanes_of_the_config():
    assert "set data.lanes=18 with train.global_batch=18" in division(6, global_batch=16, lanes=16)


def test_a_micro_batch():
    assert division(4, global_batch=64, micro_batch=2) == (
        "4 ranks do not divide train.micro_batch 2; the nearest that they divide are 4"
    )


def test_the_largest_batch_is_one_that_divides():
    config = parse_config({"data": {"shards": "x"}, "model": {"clusters": 2}, "train": {"global_batch": 32}})

    def fits(other: Config) -> bool:
        return other.train.global_batch <= 255

    assert largest_batch(config, 4, fits) == 224  # a multiple of the 32 lanes that it has
    assert largest_batch(with_batch(config, 60, None), 6, fits) == 240
    assert largest_batch(with_batch(config, 264, None), 4, fits) == 176  # 220 has 55 lanes, 176 has 44
    assert largest_batch(with_batch(config, 48, None), 6, fits) == 240  # 192 has 64 lanes, 144 has 48
    assert largest_batch(config, 4, fits, most=30) == 28
    assert largest_batch(config, 6, lambda other: False) is None
