"""A folder that grows: each shard once, when it is finished."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.shard_watch import ShardWatch
from ccscale.errors import InputError


@pytest.fixture
def tars(shards) -> list[Path]:
    return sorted(shards.glob("*.tar"))


def polled(watch: ShardWatch) -> list[str]:
    found = watch.poll()
    return [] if found is None else [shard.url for shard in found.shards]


def test_a_tar_without_manifest_once_it_rests(tars, tmp_path):
    watch = ShardWatch(str(tmp_path))
    assert polled(watch) == []
    shutil.copy(tars[0], tmp_path / "val-000000.tar")
    assert polled(watch) == []
    found = watch.poll()
    assert found is not None
    (shard,) = found.shards
    assert (shard.url, shard.split, shard.nsamples) == ("val-000000.tar", "val", 30)
    assert polled(watch) == []


def test_a_tar_that_is_being_written(tars, tmp_path, capsys):
    data = tars[0].read_bytes()
    path = tmp_path / "train-000000.tar"
    watch = ShardWatch(str(tmp_path))
    for part in (data[: len(data) // 2], data[: -2 * 10240]):
        path.write_bytes(part)
        assert polled(watch) == polled(watch) == polled(watch) == []
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2  # once for each time that it rested
    assert all(line.startswith(f"not assigned yet: {path}: ") for line in told)
    path.write_bytes(data)
    assert [polled(watch) for _ in range(3)] == [[], ["train-000000.tar"], []]


def test_a_manifest_that_grows(shards, tars, tmp_path):
    whole = Manifest.load(shards)
    watch = ShardWatch(str(tmp_path))
    handed_out = []
    for count in (1, 3, 3, 5):
        for tar in tars[:count]:
            shutil.copy(tar, tmp_path / tar.name)
        replace(whole, root=str(tmp_path), shards=whole.shards[:count], labelled={}).save()
        handed_out.append(polled(watch))
    names = [tar.name for tar in tars]
    assert handed_out == [names[:1], names[1:3], [], names[3:]]


def test_a_listed_shard_waits_for_its_file(shards, tars, tmp_path):
    replace(Manifest.load(shards), root=str(tmp_path)).save()
    watch = ShardWatch(str(tmp_path))
    assert polled(watch) == []
    shutil.copy(tars[2], tmp_path / tars[2].name)
    (tmp_path / tars[3].name).write_bytes(tars[3].read_bytes()[:-1])
    assert polled(watch) == [tars[2].name]


def test_splits(tars, tmp_path):
    for name in ("val-000000.tar", "test-000000.tar"):
        shutil.copy(tars[0], tmp_path / name)
    watch = ShardWatch(str(tmp_path), ["test"])
    assert [polled(watch) for _ in range(3)] == [[], ["test-000000.tar"], []]


def test_a_key_that_another_tar_has_is_refused_as_the_index_does(shards, tars, tmp_path, capsys):
    watch = ShardWatch(str(tmp_path))
    shutil.copy(tars[0], tmp_path / "a.tar")
    assert [polled(watch) for _ in range(2)] == [[], ["a.tar"]]
    shutil.copy(tars[0], tmp_path / "b.tar")
    shutil.copy(tars[1], tmp_path / "c.tar")
    assert [polled(watch) for _ in range(3)] == [[], ["c.tar"], []]
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"not assigned yet: {tmp_path / 'b.tar'}: two samples have the key ")
    assert told.endswith(", the other in a.tar")


def test_a_key_that_a_listed_shard_has(shards, tars, tmp_path):
    whole = Manifest.load(shards)
    replace(whole, root=str(tmp_path), shards=whole.shards[:1], labelled={}).save()
    for tar in tars[:2]:
        shutil.copy(tar, tmp_path / tar.name)
    shutil.copy(tars[0], tmp_path / "again.tar")
    watch = ShardWatch(str(tmp_path))
    assert [polled(watch) for _ in range(3)] == [[tars[0].name], [tars[1].name], []]


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(InputError, match="create it, and --follow will wait for shards in it"):
        ShardWatch(str(tmp_path / "none")).check()
