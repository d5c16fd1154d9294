"""The phases of an epoch, by brute force: where a step lies, which samples it has, and in which order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccscale.config import Views
from ccscale.data.digest import batch_digest
from ccscale.data.order.phases import PhasedSchedule, Turn
from ccscale.data.order.schedule import Schedule
from ccscale.data.pairs import pair_batches
from ccscale.data.read_ahead import _blocks
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest

pieces = st.one_of(st.none(), st.integers(1, 12))


@st.composite
def phased(draw: st.DrawFn) -> tuple[PhasedSchedule, list[set[int]]]:
    """A schedule of one to three phases over some of up to eight shards, and each phase's samples."""
    sizes = draw(st.lists(st.integers(24, 40), min_size=1, max_size=8))
    firsts = np.cumsum([0, *sizes])
    lanes = draw(st.sampled_from([1, 2, 4, 6]))
    share = draw(st.integers(1, 24 // lanes))
    seed = draw(st.integers(0, 2**32 - 1))
    phases, samples = [], []
    for _ in range(draw(st.integers(1, 3))):
        of = sorted(draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1)))
        phases.append(
            Schedule(
                tuple(sizes[i] for i in of),
                seed,
                lanes * share,
                lanes,
                draw(pieces),
                draw(st.integers(1, 9)),
                tuple(int(firsts[i]) for i in of),
            )
        )
        samples.append({int(firsts[i]) + j for i in of for j in range(sizes[i])})
    return PhasedSchedule(tuple(phases)), samples


@given(phased())
@settings(max_examples=60, deadline=None)
def test_steps_go_through_the_phases_of_epoch_after_epoch(
    case: tuple[PhasedSchedule, list[set[int]]],
) -> None:
    schedule, _ = case
    expected = [
        Turn(epoch * len(schedule.phases) + phase, phase, place)
        for epoch in range(3)
        for phase, of in enumerate(schedule.phases)
        for place in range(of.steps_per_epoch)
    ]
    assert [schedule.locate(step) for step in range(len(expected))] == expected
    assert schedule.steps_per_epoch * 3 == len(expected)


@given(phased(), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_phase_has_its_own_samples_each_at_most_once(
    case: tuple[PhasedSchedule, list[set[int]]], epoch: int
) -> None:
    schedule, samples = case
    seen: list[list[int]] = [[] for _ in samples]
    first = epoch * schedule.steps_per_epoch
    for step in range(first, first + schedule.steps_per_epoch):
        turn = schedule.locate(step)
        batch = schedule.order(turn.number).batch(turn.position)
        assert len(batch) == schedule.global_batch
        seen[turn.phase] += batch.tolist()
    for phase, of in enumerate(samples):
        assert len(set(seen[phase])) == len(seen[phase])
        assert set(seen[phase]) <= of
        assert len(of) - len(seen[phase]) < schedule.global_batch


@given(phased())
@settings(max_examples=30, deadline=None)
def test_a_substitute_is_of_the_same_phase(case: tuple[PhasedSchedule, list[set[int]]]) -> None:
    schedule, samples = case
    for turn in range(2 * len(schedule.phases)):
        order = schedule.order(turn)
        for sample in list(samples[turn % len(samples)])[:5]:
            assert order.substitute(sample, 0) in samples[turn % len(samples)]


@given(phased(), st.data())
@settings(max_examples=60, deadline=None)
def test_what_a_lane_reads_ahead_is_what_its_batches_take(
    case: tuple[PhasedSchedule, list[set[int]]], data: st.DataObject
) -> None:
    schedule, _ = case
    stop = data.draw(st.integers(1, 2 * schedule.steps_per_epoch + 1))
    start = data.draw(st.integers(0, stop - 1))
    for lane in range(schedule.lanes):
        taken = []
        for step in range(start, stop):
            turn = schedule.locate(step)
            taken += schedule.order(turn.number).batch(turn.position, range(lane, lane + 1)).tolist()
        blocks = list(_blocks(schedule, schedule.order, lane, start, stop))
        assert np.concatenate(blocks).tolist() == taken
        most = max(schedule.share, *(phase.block for phase in schedule.phases))
        assert all(1 <= len(block) <= most for block in blocks)


def test_the_same_split_in_two_phases_has_an_order_of_its_own_in_each() -> None:
    one = Schedule((100,), 0, 20, 4, piece=1)
    schedule = PhasedSchedule((one, one))
    orders = [schedule.order(turn).batch(0).tolist() for turn in range(4)]
    assert len({tuple(order) for order in orders}) == 4


def test_one_phase_is_the_schedule_itself() -> None:
    one = Schedule((40, 33), 7, 12, 3, piece=2, block=5)
    schedule = PhasedSchedule.single(replace(one, firsts=(0, 40)))
    for step in range(2 * one.steps_per_epoch):
        epoch, place = divmod(step, one.steps_per_epoch)
        turn = schedule.locate(step)
        assert np.array_equal(schedule.order(turn.number).batch(turn.position), one.epoch(epoch).batch(place))


def test_phases_that_do_not_fit_each_other_are_refused() -> None:
    one = Schedule((100,), 0, 20, 4)
    for other in (Schedule((100,), 1, 20, 4), Schedule((100,), 0, 40, 4), Schedule((100,), 0, 20, 2)):
        with pytest.raises(ValueError, match="one seed, global batch and number of lanes"):
            PhasedSchedule((one, other))
    with pytest.raises(ValueError, match="one seed"):
        PhasedSchedule(())
    with pytest.raises(ValueError, match="3 firsts for 2 shards"):
        Schedule((10, 10), 0, 4, 2, firsts=(0, 10, 20))


def schedule_of(manifest: Manifest) -> PhasedSchedule:
    """The first two shards are one phase, the other three another."""
    sizes = tuple(shard.nsamples for shard in manifest.select(["train"]))
    firsts = tuple(int(first) for first in np.cumsum((0, *sizes))[:-1])
    schedule = PhasedSchedule(
        (
            Schedule(sizes[:2], 5, 24, 6, None, 7, firsts[:2]),
            Schedule(sizes[2:], 5, 24, 6, 4, 5, firsts[2:]),
        )
    )
    assert [phase.steps_per_epoch for phase in schedule.phases] == [2, 3]
    return schedule


def read(
    manifest: Manifest, world: int = 1, workers: int = 0, start: int = 0
) -> list[tuple[list[int], bytes]]:
    """Read to step 12: digest and images of each global batch."""
    ranks = [
        pair_batches(
            manifest,
            ["train"],
            schedule_of(manifest),
            Views(size=12),
            start,
            12,
            rank=rank,
            world=world,
            workers=workers,
        )
        for rank in range(world)
    ]
    return [
        (
            (np.sum([part.digest for part in parts], axis=0) % 2**32).tolist(),
            np.concatenate([part.images.numpy() for part in parts], axis=1).tobytes(),
        )
        for parts in zip(*ranks, strict=True)
    ]


@pytest.mark.parametrize(
    ("world", "workers", "start"), [(1, 3, 0), (2, 0, 0), (3, 2, 0), (1, 2, 1), (2, 0, 3), (1, 0, 7)]
)
def test_the_stream_is_the_same_for_every_number_of_ranks_and_workers_and_start(
    manifest: Manifest, world: int, workers: int, start: int
) -> None:
    assert read(manifest, world, workers, start) == read(manifest)[start:]


def test_the_stream_has_the_phases_images(manifest: Manifest) -> None:
    schedule, reader = schedule_of(manifest), SampleReader(manifest, ["train"])
    digests = []
    for step in range(12):
        turn = schedule.locate(step)
        samples = schedule.order(turn.number).batch(turn.position)
        assert np.all((samples < schedule.phases[0].samples) == (turn.phase == 0))
        sums = batch_digest(range(len(samples)), [reader.key(int(sample)) for sample in samples])
        digests.append([part % 2**32 for part in sums])
    assert [digest for digest, _ in read(manifest)] == digests
