"""Readers stay small, and keep what they read within bounds."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from ccscale.data.reader import SampleReader
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard


def test_samples_are_those_of_the_shards(manifest: Manifest) -> None:
    reader = SampleReader(manifest, ["train"])
    assert len(reader) == 150
    number = 0
    for shard in manifest.shards:
        index = read_index(manifest, shard)
        data = Path(manifest.locate(shard)).read_bytes()
        for key, start, size, label in zip(index.keys, index.offsets, index.sizes, index.labels, strict=True):
            assert reader[number] == (key, data[start : start + size], label)
            assert reader.key(number) == key
            number += 1
    assert number == 150
    copy = pickle.loads(pickle.dumps(reader))
    assert copy[77] == reader[77]
    assert not reader.shards.is_remote


def test_the_origin_of_a_sample(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    old = copy / "train-000001.index.parquet"
    pq.write_table(pq.read_table(old).drop_columns("origin"), old)  # as earlier releases wrote it
    manifest = Manifest.load(copy)
    (copy / "train-000002.index.parquet").unlink()
    reader = pickle.loads(pickle.dumps(SampleReader(manifest, ["train"], origins=True)))
    found = {reader.key(number): reader.origin(number) for number in range(len(reader))}
    assert found == {f"class{i % 3}/{i:04d}": f"class{i % 3}/{i:04d}.jpg" for i in range(150)}
    assert SampleReader(manifest, ["train"]).origin(0) is None  # training keeps none of them


def test_a_reader_of_a_hundred_thousand_shards_is_small() -> None:
    shards = tuple(Shard(f"train-{i:06d}.tar", 10_000, 2**30, f"{i:064x}", "train") for i in range(100_000))
    manifest = Manifest("s3://bucket/data", "x", shards, (), (), {"train": 0}, {})
    reader = SampleReader(manifest, ["train"])
    assert len(pickle.dumps(reader)) < 12_000_000
    assert len(reader) == 10**9
    assert reader.shards.find(123_456_789) == (12_345, 6_789)
    assert reader.shards.place(12_345) == "s3://bucket/data/train-012345.tar"
    assert reader.shards.entry(12_345) == replace(shards[12_345], split="")
    assert reader.shards.is_remote
