"""Readers stay small, and keep what they read within bounds."""

import pickle
import random
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule
from ccscale.data.read_ahead import _blocks
from ccscale.data.reader import SampleReader
from ccscale.data.remote.fetch import Span, read_spans, requests
from ccscale.data.shards.damage import ShardError
from ccscale.data.shards.index import read_index
from ccscale.data.shards.lookup import Index, Indexes
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.threads import each


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


def test_requests_cover_the_spans_and_little_more() -> None:
    generator = random.Random(0)
    for trial in range(200):
        grain, gap = generator.choice([(1, 0), (1, 30), (16, 8)])
        data = [generator.randbytes(generator.randrange(1, 2000)) for _ in range(3)]
        spans = []
        for _ in range(generator.randrange(12)):
            shard = generator.randrange(3)
            start = generator.randrange(len(data[shard]))
            spans.append(Span(shard, start, generator.randrange(start, len(data[shard]) + 1)))
        made = requests(spans, grain, gap, most=64)
        read = 0
        for request, inside in made:
            assert 0 < request.stop - request.start <= 64
            assert request.start % grain == request.stop % grain == 0
            assert inside
            read += request.stop - request.start
        if (grain, gap) == (1, 0):
            wanted = {(span.file, byte) for span in spans for byte in range(span.start, span.stop)}
            assert read == len(wanted), trial
        found = read_spans(
            spans,
            grain,
            size=lambda s, d=data: len(d[s]),
            read=lambda r, d=data: d[r.file][r.start : r.stop],
        )
        assert found == {span: data[span.file][span.start : span.stop] for span in spans}


def test_each_raises_the_first_failure_and_keeps_the_order() -> None:
    assert each([lambda i=i: i * i for i in range(20)], 4) == [i * i for i in range(20)]  # type: ignore[misc]
    assert each([], 4) == []
    with pytest.raises(ZeroDivisionError):
        each([lambda: 1, lambda: 1 // 0, lambda: 2], 2)


@pytest.mark.parametrize(("block", "lanes"), [(7, 6), (4, 6), (1, 2), (100, 3), (5, 24)])
def test_blocks_are_the_lanes_samples_in_their_order(block: int, lanes: int) -> None:
    single = Schedule((40, 31, 60, 20), 3, 24, lanes, piece=4, block=block)
    share, span, schedule = single.share, single.span, PhasedSchedule.single(single)
    for lane in range(lanes):
        both = np.concatenate([single.epoch(epoch).lane(lane, 0, span) for epoch in (0, 1)])
        for start, stop in ((0, 12), (1, 12), (3, 7), (5, 6), (8, 9)):
            blocks = list(_blocks(schedule, schedule.order, lane, start, stop))
            assert np.concatenate(blocks).tolist() == both[start * share : stop * share].tolist()
            assert all(1 <= len(part) <= max(block, share) for part in blocks)
            # The first batch needs no more than the first block; from the second block on, they are the schedule's.
            assert len(blocks[0]) >= share or len(blocks) == 1
            assert all(len(part) <= block for part in blocks[1:])
            ends = (start * share + np.cumsum([len(part) for part in blocks])) % span
            assert all(end % block == 0 or end == 0 for end in ends[1:-1])
