"""Shared keys are found as a set of all keys would find them."""

import numpy as np

from ccscale.data import keys
from ccscale.data.keys import digests, shared_keys


def shared(shards: list[list[str]]) -> list[tuple[int, list[str], int]]:
    return shared_keys([digests(shard) for shard in shards], lambda number: shards[number])


def test_against_a_set():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shards = [
            [f"é/{key}" for key in rng.choice(60, rng.integers(0, 12), replace=False)] for _ in range(6)
        ]
        homes: dict[str, int] = {}
        expected = []
        for number, shard in enumerate(shards):
            doubles = [key for key in shard if key in homes]
            for key in shard:
                homes.setdefault(key, number)
            if doubles:
                expected.append((number, doubles, homes[doubles[0]]))
        assert shared(shards) == expected


def test_keys_are_asked_for_only_where_digests_are_equal():
    asked = []
    lists = [["a", "b"], ["c"], ["b"]]

    def keys_of(number: int) -> list[str]:
        asked.append(number)
        return lists[number]

    assert shared_keys([digests(each) for each in lists], keys_of) == [(2, ["b"], 0)]
    assert asked == [0, 2]
    assert shared_keys([digests(["a"]), digests(["b"])], keys_of) == []
    assert shared_keys([], keys_of) == []
    assert asked == [0, 2]


def test_equal_digests_of_different_keys_are_no_problem(monkeypatch):
    lists = [["a", "b"], ["c", "d"]]
    same = np.array([5, 6], np.uint64)
    assert keys.shared_keys([same, same], lambda number: lists[number]) == []
