"""What a run has taken in, compared with what is listed."""

import pytest

from ccscale.data.shards.intakes import Intake, Intakes, ListedShard, compare
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import InputError


def source(
    name: str, samples: int = 10, content: str = "", split: str = "train", features: str | None = None
):
    sha256 = (content or name).encode().hex().ljust(64, "0")
    return ListedShard(Shard(f"{name}.tar", samples, 1000 * samples, sha256, split), features)


A, B, C, D = map(source, "abcd")
TAKEN = Intakes((Intake(0, (A, B)), Intake(7, (C,), ("a.tar",))), looked=9)


def test_samples_keep_their_numbers():
    assert [shard.url for shard in TAKEN.shards] == ["a.tar", "b.tar", "c.tar"]
    assert [each.shard.url for each in TAKEN.active] == ["b.tar", "c.tar"]
    assert [TAKEN.samples(step) for step in (0, 6, 7, 100)] == [20, 20, 30, 30]
    assert TAKEN.until(6) == Intakes((Intake(0, (A, B)),), looked=9)
    assert [tuple(version.retired) for version in TAKEN.versions()] == [(), (0,)]
    other = source("v", split="val").shard
    listed = Manifest("there", "x", (D.shard, C.shard, other, B.shard), (), (), {}, {})
    assert [shard.url for shard in TAKEN.numbered(listed).shards] == ["a.tar", "b.tar", "c.tar", "v.tar"]
    assert [shard.url for shard in TAKEN.current(listed).shards] == ["b.tar", "c.tar", "v.tar"]
    # An intake at an earlier step, as where a shard is gone when a run goes on, gives up what came later.
    assert TAKEN.with_(Intake(5, (D,))) == Intakes((Intake(0, (A, B)), Intake(5, (D,))), looked=5)


def test_one_that_did_not_grow_is_the_manifest_itself():
    listed = Manifest("there", "x", (source("v", split="val").shard, A.shard, B.shard), (), (), {}, {})
    begun = Intakes((Intake(0, (A, B)),))
    assert begun.numbered(listed) is listed
    assert begun.current(listed) is listed


def test_a_data_set_is_that_of_a_run_or_another_one():
    now = Manifest("there", "x", (C.shard, B.shard), (), (), {}, {})
    assert TAKEN.are_of(now, ["train"])
    assert not TAKEN.are_of(Manifest("there", "x", (A.shard, B.shard, C.shard), (), (), {}, {}), ["train"])
    assert TAKEN.until(6).are_of(Manifest("there", "x", (B.shard, A.shard), (), (), {}, {}), ["train"])


def test_what_is_new_and_what_has_vanished_is_found():
    assert compare(TAKEN, [D, A, C], "there") == (
        (D,),
        ("b.tar",),
    )  # of a.tar, which is retired, nothing is told
    assert compare(TAKEN, [A, B, C], "there") == ((), ())
    again = source("a", 12, "other")  # under the name of one that is retired
    assert compare(TAKEN, [again, B, C], "there") == ((), ())


def test_a_shard_may_not_change_or_come_twice():
    with pytest.raises(InputError, match=r"there: b.tar has changed since .*10 images then, 12 now"):
        compare(TAKEN, [source("b", 12, "other"), C], "there")
    with pytest.raises(InputError, match=r"d.tar has the same contents as c.tar, which the run already uses"):
        compare(TAKEN, [B, C, source("d", content="c")], "there")
    store = Intakes((Intake(0, (source("a", features="f"),)),))
    # A shard that no manifest listed has a hash that stands in; it is the features that count.
    assert compare(store, [source("a", content="other", features="f")], "there") == ((), ())
    with pytest.raises(InputError, match="has changed since"):
        compare(store, [source("a", features="g")], "there")
