"""The schedule's promises, by brute force over small cases and by hypothesis over many."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccscale.config import divisors
from ccscale.data import schedule as schedule_module
from ccscale.data.schedule import FULL_PERMUTATION, Schedule, default_piece, owned

shard_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) >= 24)
pieces = st.one_of(st.none(), st.integers(1, 12))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    sizes = tuple(draw(shard_sizes))
    lanes = draw(st.sampled_from([1, 2, 4, 6]))
    share = draw(st.integers(1, 24 // lanes))
    return Schedule(
        sizes, draw(st.integers(0, 2**32 - 1)), lanes * share, lanes, draw(pieces), draw(st.integers(1, 9))
    )


@given(schedules(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_each_sample_at_most_once_and_no_more_is_dropped_than_does_not_fill_a_batch(
    schedule: Schedule, epoch: int
) -> None:
    order = schedule.epoch(epoch)
    seen = np.concatenate([order.batch(step) for step in range(schedule.steps_per_epoch)])
    assert len(np.unique(seen)) == len(seen)
    assert seen.min() >= 0
    assert seen.max() < schedule.samples
    assert schedule.samples - len(seen) < schedule.global_batch


@given(schedules(), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_lanes_read_equally_much_and_a_lane_is_the_same_however_it_is_cut(
    schedule: Schedule, epoch: int
) -> None:
    order = schedule.epoch(epoch)
    for lane in range(schedule.lanes):
        whole = order.lane(lane, 0, schedule.span)
        assert len(whole) == schedule.span
        cuts = [order.lane(lane, place, place + 1) for place in range(schedule.span)]
        assert np.array_equal(np.concatenate(cuts), whole)


@given(schedules(), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_the_global_batches_are_the_same_for_every_number_of_ranks_and_workers(
    schedule: Schedule, epoch: int
) -> None:
    order = schedule.epoch(epoch)
    for step in range(schedule.steps_per_epoch):
        whole = order.batch(step)
        for world in divisors(schedule.lanes):
            for workers in range(1, schedule.lanes // world + 1):
                parts = []
                for rank in range(world):
                    lanes = owned(schedule.lanes, rank, world)
                    for worker in range(workers):
                        mine = owned(len(lanes), worker, workers)
                        parts.append(order.batch(step, lanes[mine.start : mine.stop]))
                assert np.array_equal(np.concatenate(parts), whole)


@given(schedules())
@settings(max_examples=15, deadline=None)
def test_a_resume_at_any_step_equals_the_tail(schedule: Schedule) -> None:
    steps = schedule.steps_per_epoch
    whole = [schedule.epoch(step // steps).batch(step % steps) for step in range(2 * steps)]
    for start in range(2 * steps):
        again = Schedule(
            *(getattr(schedule, name) for name in schedule.__dataclass_fields__ if name[0] != "_")
        )
        tail = [again.epoch(step // steps).batch(step % steps) for step in range(start, 2 * steps)]
        assert all(np.array_equal(a, b) for a, b in zip(tail, whole[start:], strict=True))


@pytest.mark.parametrize("piece", [1, 5, None])
def test_blocks_stay_within_their_stretch_of_the_lane(piece: int | None) -> None:
    """A resume in the middle of a lane needs one block, not what was read before."""
    shuffled = Schedule((50, 70, 33), 3, 8, 2, piece, block=10).epoch(0)
    plain = Schedule((50, 70, 33), 3, 8, 2, piece, block=1).epoch(0)
    for lane in range(2):
        for start in range(0, shuffled.schedule.span, 10):
            stop = min(start + 10, shuffled.schedule.span)
            assert set(shuffled.lane(lane, start, stop)) == set(plain.lane(lane, start, stop))


def test_epochs_differ_and_drop_different_samples() -> None:
    schedule = Schedule((100,), 0, 32, 4, piece=1)
    everything = set(range(100))
    epochs = [np.concatenate([schedule.epoch(e).batch(step) for step in range(3)]) for e in range(20)]
    assert not np.array_equal(epochs[0], epochs[1])
    dropped = [everything - set(epoch.tolist()) for epoch in epochs]
    assert all(len(part) == 4 for part in dropped)
    assert len(set().union(*dropped)) > 30


def test_seeds_differ() -> None:
    first, second = (Schedule((64,), seed, 32, 4, piece=1).epoch(0).batch(0) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_a_single_shard_is_permuted_across_lanes() -> None:
    """Where small data are in one shard, a lane must not read the same part of it in every epoch."""
    schedule = Schedule((1024,), 0, 64, 8, default_piece((1024,), 8, remote=False))
    lane = [set(schedule.epoch(epoch).lane(0, 0, schedule.span).tolist()) for epoch in range(2)]
    assert len(lane[0] & lane[1]) < 0.5 * schedule.span


def test_the_order_is_pinned() -> None:
    """A change of this order breaks every run that is resumed: it wants a new version, not a new expectation."""
    schedule = Schedule((7, 5, 9), 1, 6, 3, piece=2, block=4)
    order = [schedule.epoch(epoch).batch(step).tolist() for epoch in (0, 1) for step in range(3)]
    assert order == [
        [0, 1, 15, 14, 11, 7],
        [20, 6, 16, 17, 13, 12],
        [18, 19, 3, 2, 8, 4],
        [8, 4, 9, 0, 15, 16],
        [7, 5, 10, 1, 11, 14],
        [19, 18, 20, 6, 12, 17],
    ]


@pytest.mark.parametrize("samples", [96, 100])
def test_substitutes_come_from_the_dropped_samples_where_there_are_any(samples: int) -> None:
    order = Schedule((samples,), 0, 32, 4, piece=1).epoch(0)
    used = {int(sample) for step in range(3) for sample in order.batch(step)}
    found = {order.substitute(sample, attempt) for sample in range(20) for attempt in range(20)}
    assert found <= (set(range(samples)) - used if samples > 96 else set(range(samples)))
    assert len(found) > 3
    assert order.substitute(5, 0) == order.substitute(5, 0)


def test_what_cannot_be_scheduled_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fill"):
        Schedule((10,), 0, 16, 4)
    with pytest.raises(ValueError, match="do not divide"):
        Schedule((100,), 0, 16, 3)


def test_default_pieces() -> None:
    assert default_piece((1000,), 64, remote=False) == 1
    assert default_piece((1000,) * 1282, 64, remote=False) == 1_282_000 // FULL_PERMUTATION
    assert default_piece((10_000,) * 100_000, 64, remote=False) is None
    assert default_piece((1000,) * 1282, 64, remote=True) is None
    assert default_piece((100_000,), 64, remote=True) == 100_000 // 256


def test_a_billion_samples_cost_by_their_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 shards: one permutation of 100,000 numbers an epoch, and one of a block for each lane read."""
    sizes = (10_000,) * 100_000
    permuted: list[int] = []
    real = schedule_module._permutation

    def counted(count: int, *rest: Any) -> Any:
        permuted.append(count)
        return real(count, *rest)

    monkeypatch.setattr(schedule_module, "_permutation", counted)
    schedule = Schedule(sizes, 0, 65_536, 4096, default_piece(sizes, 4096, remote=True), block=1024)
    order = schedule.epoch(7)
    order.batch(schedule.steps_per_epoch // 2, range(100, 102))
    assert permuted == [100_000, 1024, 1024]
