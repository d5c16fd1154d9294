"""Shared keys are found as a set of all keys would find them; names become valid text and are told apart."""

import os

import numpy as np
import pytest

from ccscale.data.shards import keys
from ccscale.data.shards.keys import digests, disambiguated, escaped, shared_keys, unescaped


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain/caf\xc3\xa9 100%.x", "plain/café 100%.x"),
        (b"caf\xe9", "caf%xE9"),
        (b"caf%xE9", "caf%x25xE9"),  # another file's name
        (b"\xff%xE9%20\xfe", "%xFF%x25xE9%20%xFE"),
        (b"%x25xE9", "%x25x25xE9"),
        (b"%x2", "%x2"),
        (b"%x\xe9", "%x%xE9"),
    ],
)
def test_names_are_escaped_so_that_they_can_be_had_back(name, text):
    key = escaped(os.fsdecode(name))
    assert key == text
    assert os.fsencode(unescaped(key)) == name
    key.encode()


def test_any_bytes_come_back():
    rng = np.random.default_rng(0)
    seen = {}
    for _ in range(3000):
        name = bytes(rng.choice([*b"%x2E59Fa", 0xC3, 0xA9, 0xFF], rng.integers(1, 9)).astype(np.uint8))
        key = escaped(os.fsdecode(name))
        assert os.fsencode(unescaped(key)) == name
        assert seen.setdefault(key, name) == name


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["p.jpg", "q.jpg", "p.png"], ["p_jpg", "q", "p_png"]),
        (["p.jpg", "p.JPG"], ["p_jpg", "p_JPG"]),
        (["p.jpg", "p.jpg", "p.jpg"], ["p_jpg", "p_jpg_2", "p_jpg_3"]),
        (["p.jpg", "p.png", "p_jpg.png"], ["p_jpg_2", "p_png", "p_jpg"]),
        (["p.", "p."], ["p", "p_2"]),
    ],
)
def test_keys_that_collide_get_their_endings(files, expected):
    stems, endings = zip(*(name.split(".") for name in files), strict=True)
    assert disambiguated(stems, endings) == expected
