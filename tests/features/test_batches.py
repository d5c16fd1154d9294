"""Batches of a store: the schedule's samples that have features, the same at any number of ranks."""

import hashlib

import numpy as np
import pytest
import torch
from harness.stores import make_store

from ccscale.config import Pairs
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule
from ccscale.errors import InputError
from ccscale.features.batches import feature_batches, whole_features
from ccscale.features.pairs import PairDraw
from ccscale.features.store import Features

N, D, SIZES = 100, 6, [33, 0, 40, 27]
SCHEDULE = PhasedSchedule.single(Schedule(tuple(SIZES), seed=5, global_batch=24, lanes=8, piece=4, block=16))


def numbers(views: int = 2) -> list[np.ndarray]:
    """Features that tell row and view."""
    return [
        np.arange(N, dtype=np.float32)[:, None] + np.full(D, 1000 * view, np.float32)
        for view in range(views + 1)
    ]


def store_of(folder, bad=(), views=None, **settings) -> Features:
    return make_store(folder, numbers() if views is None else views, shards=SIZES, bad=bad, **settings)


def batches(store: Features, rank: int = 0, world: int = 1, stop: int = 9):
    draw = PairDraw(store, Pairs(), seed=5)
    return list(feature_batches(draw, SCHEDULE, 0, stop, rank=rank, world=world))


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_same_at_any_number_of_ranks(tmp_path, world):
    store = store_of(tmp_path, bad=[3, 50, 51, 52, 99])
    whole, ranks = batches(store), [batches(store, rank, world) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [of[step] for of in ranks]
        assert torch.equal(torch.cat([part.features for part in parts], dim=1), batch.features)
        assert tuple(sum(part.digest[half] for part in parts) for half in (0, 1)) == batch.digest
        assert tuple(line for part in parts for line in part.bad) == batch.bad
    assert any(batch.bad for batch in whole)


def test_samples_are_the_schedule_s(tmp_path):
    for batch in batches(store_of(tmp_path)):
        turn = SCHEDULE.locate(batch.step)
        samples = SCHEDULE.order(turn.number).batch(turn.position)
        assert (batch.features[:, :, 0] % 1000 == torch.from_numpy(samples)).all()
        halves = [
            np.frombuffer(hashlib.blake2b(f"{place}:key-{i:08d}".encode(), digest_size=8).digest(), np.uint32)
            for place, i in enumerate(samples.tolist())
        ]
        assert batch.digest == tuple(np.sum(halves, axis=0, dtype=np.uint64).tolist())
        assert batch.bad == ()


def test_a_sample_without_features_has_the_schedule_s_substitute(tmp_path):
    """Marked so, or with a number that is none; each is told by its key."""
    views = numbers()
    views[1][60] = np.nan
    views[2][60, 2] = np.inf
    views[1][7, 1] = -np.inf
    views[2][7] = np.nan
    for batch in batches(store_of(tmp_path, bad=[20], views=views)):
        turn = SCHEDULE.locate(batch.step)
        order = SCHEDULE.order(turn.number)
        expected, told = [], []
        for sample in order.batch(turn.position).tolist():
            found, attempt = sample, 0
            while found in (7, 20, 60):
                told.append(f"key-{found:08d}: {tmp_path} has no features of it")
                found, attempt = order.substitute(sample, attempt), attempt + 1
            expected.append(found)
        assert (batch.features[0, :, 0] % 1000).tolist() == expected
        assert torch.isfinite(batch.features).all()
        assert sorted(batch.bad) == sorted(told)


def test_nothing_but_bad_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("ccscale.features.batches.SUBSTITUTES", 20)
    store = store_of(tmp_path, bad=range(N))
    with pytest.raises(InputError, match="20 images in a row have no features, the last is key-"):
        batches(store, stop=1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_evaluation_sees_every_row_once(tmp_path, dtype):
    store = store_of(tmp_path, bad=[2], dtype=dtype)
    found = list(whole_features(store, 7, [range(50), range(50, N)]))
    assert np.concatenate([batch.samples for batch in found]).tolist() == list(range(N))
    assert [key for batch in found for key in batch.keys] == [f"key-{i:08d}" for i in range(N)]
    assert [i for batch in found for i in batch.samples[batch.bad]] == [2]
    views = [store.take(np.arange(N), view) for view in range(store.views + 1)]
    expected = torch.from_numpy(np.mean(views, axis=0))
    expected[2] = 0
    torch.testing.assert_close(torch.cat([batch.images for batch in found]), expected)
    assert found[0].reasons == (f"key-00000002: {tmp_path} has no features of it",)
