"""The schedule's promises, by brute force over small cases and by hypothesis over many."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccscale.config.divisors import divisors
from ccscale.data.order import schedule as schedule_module
from ccscale.data.order.schedule import Schedule, default_block, default_piece, owned

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
    orders = [schedule.epoch(0), schedule.epoch(1)]
    whole = [orders[step // steps].batch(step % steps) for step in range(2 * steps)]
    for start in range(0, 2 * steps, 1 + steps // 8):
        again = Schedule(
            *(getattr(schedule, name) for name in schedule.__dataclass_fields__ if name[0] != "_")
        )
        orders = [again.epoch(0), again.epoch(1)]
        tail = [orders[step // steps].batch(step % steps) for step in range(start, 2 * steps)]
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
    schedule = Schedule((1024,), 0, 64, 8, default_piece((1024,)))
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


@pytest.mark.parametrize(
    ("sizes", "settings", "epoch", "steps", "expected"),
    [
        ((1797,), (0, 256, 64, 1, 1024), 3, range(7), "be2e99aaf847c47b"),
        (tuple(range(50, 90)), (7, 96, 32, 5, 17), 0, range(28), "4111bfaf1fa20a5e"),
        (tuple(range(50, 90)), (7, 96, 4, None, 100), 0, range(28), "9a39d1483e50fef7"),
        ((128_117,) * 10, (5, 256, 64, 9, 1024), 9, range(200, 300), "d874c91c2735d33d"),
        ((10_007,) * 100_000, (5, 65_536, 4096, None, 1024), 9, range(7000, 7002), "43acdd1b2a3bb2a2"),
    ],
)
def test_the_order_is_pinned_at_the_sizes_of_real_data(
    sizes: tuple[int, ...],
    settings: tuple[int, int, int, int | None, int],
    epoch: int,
    steps: range,
    expected: str,
) -> None:
    order = Schedule(sizes, *settings).epoch(epoch)
    lanes = range(min(64, order.schedule.lanes))
    samples = np.concatenate([order.batch(step, lanes) for step in steps])
    assert hashlib.sha256(samples.astype("<i8").tobytes()).hexdigest()[:16] == expected


@pytest.mark.parametrize("count", [0, 1, 1000, 40_000])
@pytest.mark.parametrize("bits", [32, 3])
def test_permutations_sort_random_bits_and_equal_ones_stay_in_order(
    monkeypatch: pytest.MonkeyPatch, count: int, bits: int
) -> None:
    """Written out with Python's own sort, which is stable; with 3 bits a word, many numbers are equal."""
    key = np.array([3, 4], dtype=np.uint32)
    real = schedule_module.philox4x32
    monkeypatch.setattr(schedule_module, "philox4x32", lambda *args: real(*args) >> np.uint32(32 - bits))
    counters = np.array([(i, 9, 5, 6) for i in range(count)], dtype=np.uint32).reshape(count, 4)
    words = (real(counters, key) >> np.uint32(32 - bits)).tolist()
    expected = sorted(range(count), key=lambda i: words[i][:2])
    assert schedule_module._permutation(count, key, 9, 5, 6).tolist() == expected


@pytest.mark.parametrize("samples", [96, 100])
def test_substitutes_come_from_the_dropped_samples_where_there_are_any(samples: int) -> None:
    order = Schedule((samples,), 0, 32, 4, piece=1).epoch(0)
    used = {int(sample) for step in range(3) for sample in order.batch(step)}
    found = {order.substitute(sample, attempt) for sample in range(20) for attempt in range(20)}
    assert found <= (set(range(samples)) - used if samples > 96 else set(range(samples)))
    assert len(found) > 3
    assert order.substitute(5, 0) == order.substitute(5, 0)


def test_what_cannot_be_scheduled_is_refused() -> None:
    with pytest.raises(ValueError, match="less than a global batch"):
        Schedule((10,), 0, 16, 4)
    with pytest.raises(ValueError, match="do not divide"):
        Schedule((100,), 0, 16, 3)


@pytest.mark.parametrize(
    ("sizes", "piece"),
    [
        ((60_000,), 1),
        ((10_000,) * 13 + (1072,), 1),  # 2**17
        ((10_000,) * 13 + (1073,), 4),
        ((2330,) * 550, 4),
        ((3000,) * 5000, 15),  # 15,000,000 / (2**20 - 5000)
        ((10_000,) * 10_000, 97),
        ((10_000,) * 100_000, None),  # 1055 is no finer than a block
        ((60,) * 2_000_000, None),
        ((3,) * 100_000, None),  # shards smaller than a piece
    ],
)
def test_default_pieces(sizes: tuple[int, ...], piece: int | None) -> None:
    assert default_piece(sizes) == piece
    pieces = len(sizes) if piece is None else sum(-(-size // piece) for size in sizes)
    assert pieces <= max(2**20, len(sizes))


@pytest.mark.parametrize(
    ("samples", "total_bytes", "block_bytes", "block"),
    [
        (1000, 106_000_000, 2**26, 633),  # 106 kB each in 64 MiB
        (1_281_167, 140 * 10**9, 2**27, 1024),
        (60_000, 60_000 * 3000, 2**26, 1024),
        (1000, 10**9, 10**6, 1),
        (1000, 10**9, 999_999, 1),  # less than a sample
        (1000, 10**9, 3_500_000, 3),
        (1000, 0, 1, 1000),
    ],
)
def test_default_blocks(samples: int, total_bytes: int, block_bytes: int, block: int) -> None:
    assert default_block(samples, total_bytes, block_bytes) == block


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counters of random words that are drawn from here on, call by call."""
    counts: list[int] = []
    real = schedule_module.philox4x32

    def counted(counters: np.ndarray, key: np.ndarray) -> np.ndarray:
        counts.append(len(counters))
        return real(counters, key)

    monkeypatch.setattr(schedule_module, "philox4x32", counted)
    return counts


def test_a_billion_samples_cost_by_their_pieces_and_a_resume_by_its_blocks(drawn: list[int]) -> None:
    """100,000 shards: 100,000 numbers an epoch, and those of one block for each lane read, at any step."""
    sizes = (10_000,) * 100_000
    schedule = Schedule(sizes, 0, 65_536, 4096, default_piece(sizes), block=1024)
    assert drawn == []
    for step in (0, 1, schedule.steps_per_epoch // 2, schedule.steps_per_epoch - 1):
        drawn.clear()
        order = schedule.epoch(7)
        assert sum(drawn) == 100_000
        drawn.clear()
        order.batch(step, range(100, 101))
        last = schedule.span % 1024 if step == schedule.steps_per_epoch - 1 else 1024
        assert drawn == [last]
        order.batch(step, range(100, 103))
        assert drawn == [last] * 3


@pytest.mark.parametrize(("share", "block"), [(4, 64), (5, 64), (64, 64), (100, 64), (7, 1)])
def test_an_epoch_draws_one_number_for_each_place_it_reads(drawn: list[int], share: int, block: int) -> None:
    """A block is permuted once, not once a batch, whether batches end with blocks or not."""
    schedule = Schedule((700, 1300), 0, 3 * share, 3, None, block)
    order = schedule.epoch(0)
    drawn.clear()
    for step in range(schedule.steps_per_epoch):
        order.batch(step)
    assert sum(drawn) == 3 * schedule.span
    assert len(drawn) == 3 * -(-schedule.span // block)


def test_what_is_returned_is_the_callers_own() -> None:
    order = Schedule((100,), 0, 4, 1, 1, 10).epoch(0)
    batch, lane = order.batch(0), order.lane(0, 0, 4)
    expected = batch.copy()
    batch[:], lane[:] = -1, -1
    assert np.array_equal(order.batch(0), expected)
    assert np.array_equal(order.lane(0, 0, 4), expected)
