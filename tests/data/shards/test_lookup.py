"""Indexes are kept within bounds, and each is loaded once."""

import threading

import numpy as np
import pyarrow as pa
import pytest

from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.lookup import Index, Indexes


def index_of(number: int) -> Index:
    return Index(pa.array([f"{number:04d}"] * 100), *(np.full(100, number) for _ in range(3)))


def test_indexes_are_kept_within_bounds_the_latest_first() -> None:
    loaded: list[int] = []

    def load(number: int) -> Index:
        loaded.append(number)
        return index_of(number)

    indexes = Indexes(load, bound=3 * index_of(0).nbytes)
    for number in (0, 1, 2, 0, 3, 0, 2, 1):
        assert indexes[number].offsets[0] == number
    assert loaded == [0, 1, 2, 3, 1]  # 3 drove 1 out, which was not used for longest
    tight = Indexes(load, bound=1)
    assert [tight[number].keys[0].as_py() for number in (5, 6, 6)] == ["0005", "0006", "0006"]
    assert loaded[5:] == [5, 6]


def test_an_index_is_loaded_once_whoever_asks() -> None:
    loaded: list[int] = []
    go_on = threading.Event()

    def load(number: int) -> Index:
        go_on.wait(10)
        loaded.append(number)
        if len(loaded) == 1:
            raise ShardError("x.tar", "is damaged")
        return index_of(number)

    indexes = Indexes(load)
    go_on.set()
    with pytest.raises(ShardError):
        indexes[4]
    go_on.clear()
    threads = [threading.Thread(target=lambda: indexes[4]) for _ in range(5)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert loaded == [4, 4]
