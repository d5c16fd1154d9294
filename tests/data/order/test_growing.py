"""The order of data that grow, by brute force: what each step has, and that nothing else decides it."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccscale.config.file import parse_config
from ccscale.data.order.growing import GrowingSchedule
from ccscale.data.order.run import DataVersion, last_step, make_growing_schedule, make_schedule
from ccscale.data.order.stages import BoostSteps
from ccscale.data.read_ahead import _blocks
from ccscale.data.shards.manifest_file import Shard


def config(**train):
    data = {"shards": "nowhere", "refresh": "epoch", "splits": ["a", "b"], "lanes": 4, "block": 5}
    phases = [{"splits": ["a"]}, {"splits": ["b"]}]
    data |= {"phases": phases} if train.pop("phased", False) else {}
    boost = {"epochs": train.pop("boost", 0), "check_epochs": 2, "settled": train.pop("settled", 0)}
    train = {"global_batch": 8, "epochs": 6, **train}
    return parse_config({"data": data, "model": {"clusters": 4}, "train": train, "stages": {"boost": boost}})


def shard(number: int, samples: int) -> Shard:
    return Shard(f"{number}.tar", samples, 1000 * samples, "0" * 64, "ab"[number % 2])


@st.composite
def grown(draw: st.DrawFn) -> tuple[GrowingSchedule, list[DataVersion]]:
    """The schedule of up to five versions, some of which end an epoch in its middle, some retire a shard."""
    sizes = draw(st.lists(st.integers(8, 30), min_size=6, max_size=12))
    shards = [shard(number, size) for number, size in enumerate(sizes)]
    steps = [0, *sorted(draw(st.lists(st.integers(0, 30), max_size=4)))]
    counts = sorted(draw(st.lists(st.integers(4, len(sizes)), min_size=len(steps), max_size=len(steps))))
    retired = draw(st.lists(st.integers(0, 1), min_size=len(steps), max_size=len(steps)))
    versions = [
        DataVersion(step, shards[:count], frozenset(range(2, 2 + sum(retired[:number]) % 2)))
        for number, (step, count) in enumerate(zip(steps, counts, strict=True))
    ]
    return make_growing_schedule(config(phased=draw(st.booleans())), versions, 1), versions


@given(grown())
@settings(max_examples=25, deadline=None)
def test_each_sample_comes_at_most_once_an_epoch_and_only_while_it_is_there(case):
    schedule, versions = case
    seen: dict[int, list[int]] = {}
    order = cache(schedule.order)
    for step in range(50):
        turn = schedule.locate(step)
        samples = order(turn.number).batch(turn.position).tolist()
        version = [each for each in versions if each.step <= step][-1]
        begins = np.cumsum([0, *(each.nsamples for each in version.shards)])
        homes = set((np.searchsorted(begins, samples, side="right") - 1).tolist())
        assert homes <= set(range(len(version.shards))) - set(version.retired)
        epoch = schedule.epochs_begun(step + 1)
        assert epoch - schedule.epochs_begun(step) in (0, 1)
        assert schedule.ends_epoch(step) == (step > 0 and epoch > schedule.epochs_begun(step))
        assert turn.number // len(schedule.eras[0].schedule.phases) == epoch - 1
        seen.setdefault(epoch, []).extend(samples)
        assert schedule.left(step) >= 1
        if schedule.left(step) == 1:
            assert schedule.locate(step + 1).number > turn.number
        else:
            assert schedule.locate(step + 1) == turn._replace(position=turn.position + 1)
    assert all(len(samples) == len(set(samples)) for samples in seen.values())
    for epochs in range(1, 8):  # the step with which an epoch ends is the one from which on there are more
        end = schedule.end_of(epochs)
        assert schedule.epochs_begun(end) == epochs < schedule.epochs_begun(end + 1)


@given(grown(), st.integers(0, 30), st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_what_is_read_ahead_is_what_is_used(case, start, count):
    schedule, _ = case
    order = cache(schedule.order)
    for lane in (0, 3):
        ahead = np.concatenate(list(_blocks(schedule, order, lane, start, start + count)))
        used = []
        for step in range(start, start + count):
            turn = schedule.locate(step)
            used.append(order(turn.number).batch(turn.position, range(lane, lane + 1)))
        assert ahead.tolist() == np.concatenate(used).tolist()


def test_what_has_come_later_changes_nothing_before_and_new_samples_are_seen():
    shards = [shard(number, 16) for number in range(8)]
    begun = [DataVersion(0, shards[:4]), DataVersion(16, shards[:6])]
    now = make_growing_schedule(config(), begun, 1)
    later = make_growing_schedule(config(), [*begun, DataVersion(40, shards)], 4)
    assert [now.locate(step) for step in range(40)] == [later.locate(step) for step in range(40)]
    epoch = [
        later.order(later.locate(step).number).batch(later.locate(step).position) for step in range(40, 56)
    ]
    assert sorted(np.concatenate(epoch).tolist()) == list(range(128))
    plain = make_schedule(config(), shards[:4], 1)
    same = GrowingSchedule.of([(0, plain)])
    assert [same.locate(step) for step in range(40)] == [plain.locate(step) for step in range(40)]


def test_a_runs_length_follows_what_it_has_taken_in():
    shards = [shard(number, 16) for number in range(8)]
    versions = [DataVersion(0, shards[:4]), DataVersion(16, shards)]  # 8 steps an epoch, then 16
    schedule = make_growing_schedule(config(), versions, 1)
    assert last_step(config(), schedule) == 16 + 4 * 16
    assert last_step(config(max_steps=1000), schedule) == 1000
    steps = BoostSteps.of(config(boost=5), schedule)
    assert steps == BoostSteps(80, 96, 160, frozenset({96, 128, 160}), (96, 112, 128, 144, 160))
    assert [step for step in range(200) if steps.is_checked(step, 150)] == [96, 112, 128, 150, 160]
    patient = config(boost=5, settled=0.9)
    assert BoostSteps.of(patient, schedule) == steps._replace(begin=160)
    begun = BoostSteps.of(patient, schedule, 128)
    assert begun == steps._replace(begin=128)
    assert [step for step in range(200) if begun.is_checked(step, 160)] == [96, 128, 144, 160]
    ended = BoostSteps.of(patient, schedule, 128, 144)
    assert [step for step in range(200) if ended.is_checked(step, 160)] == [96, 128, 144]
    assert [step for step in range(200) if ended.trains(step)] == list(range(128, 144))
    assert not ended.covers(144)


@pytest.mark.parametrize("epochs", [1, 3])
def test_an_epoch_that_is_cut_off_counts(epochs):
    shards = [shard(number, 16) for number in range(8)]
    schedule = make_growing_schedule(
        config(), [DataVersion(0, shards[:4]), DataVersion(8 * epochs - 3, shards)], 1
    )
    assert schedule.end_of(epochs) == 8 * epochs - 3
    assert schedule.end_of(epochs + 1) == 8 * epochs - 3 + 16
