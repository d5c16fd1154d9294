"""Parts of shards: every sample in one of them, and names that depend on nothing else."""

import json
from itertools import chain

import pytest

from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.shard_watch import UNLISTED
from ccscale.evaluate.parts import deal, parts_of


def shards(*sizes: int) -> list[Shard]:
    return [Shard(f"val/train-{i:06d}.tar", size, 1, "0" * 64, "train") for i, size in enumerate(sizes)]


@pytest.mark.parametrize("sizes", [(10,), (4, 0, 9, 1), (3, 3, 3), ()])
@pytest.mark.parametrize("samples", [1, 3, 4, 100])
def test_each_sample_is_in_one_part(sizes, samples):
    parts = parts_of(shards(*sizes), samples)
    assert list(chain.from_iterable(part.span for part in parts)) == list(range(sum(sizes)))
    assert all(0 < part.count <= samples for part in parts)
    for part in parts:
        number = int(part.shard.url[-10:-4])
        assert part.first == sum(sizes[:number]) + part.start
        assert part.start + part.count <= sizes[number]
    assert len({part.name for part in parts}) == len(parts)


def test_names_do_not_depend_on_other_shards():
    whole, some = parts_of(shards(4, 7, 5), 3), parts_of(shards(4, 7, 5)[1:], 3)
    assert [part.name for part in some] == [part.name for part in whole[2:]]
    assert whole[3].name == "val%2Ftrain-000001.000000003"


def test_names_are_files_and_differ():
    urls = [f"https://host/{'long/' * 60}{name}.tar" for name in ("a", "b")] + [f"https://{'x' * 300}/a.tar"]
    urls += ["_x.tar", ".x.tar", "%5Fx.tar", "%2Ex.tar", "x.tar"]
    names = {parts_of([Shard(url, 1, 1, "0" * 64, "s")])[0].name for url in urls}
    assert len(names) == len(urls)
    assert all("/" not in name and len(name.encode()) < 200 for name in names)


SCANNED = UNLISTED + "5" * 32


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        (("a" * 64, 9), ("a" * 64, 9), True),
        (("a" * 64, 9), ("b" * 64, 9), False),
        ((SCANNED, 9), (SCANNED, 9), True),
        ((SCANNED, 9), (UNLISTED + "6" * 32, 9), False),
        ((SCANNED, 9), ("a" * 64, 9), True),  # it has come to be listed
        ((SCANNED, 9), ("a" * 64, 8), False),
    ],
)
def test_a_shard_that_was_replaced_is_another_one(before, now, same):
    (old,), (new,) = (parts_of([Shard("a.tar", 3, size, sha256, "s")]) for sha256, size in (before, now))
    assert old.name == new.name
    assert new.is_of(json.loads(json.dumps(old.key))) == same


@pytest.mark.parametrize("url", ["_x.tar", ".x.tar", "./x.tar", "a/" * 73 + "_x.tar", "a_x.tar", "%5Fx.tar"])
def test_no_name_is_one_that_readers_pass_over(url):
    (part,) = parts_of([Shard(url, 1, 1, "0" * 64, "s")])
    assert part.name[0] not in "._"
    assert (part.name == part.former_name) == (part.former_name[0] not in "._")


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_ranks_share_what_is_left(world):
    parts = parts_of(shards(40, 20), 7)
    done = {parts[1].name, parts[4].name}
    dealt = [deal(parts, done, rank, world) for rank in range(world)]
    together = sorted(chain.from_iterable(dealt), key=lambda part: part.first)
    assert together == [part for part in parts if part.name not in done]
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
