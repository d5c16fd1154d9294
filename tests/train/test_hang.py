"""Which rank hangs, of all that stand still."""

from dataclasses import replace

import pytest

from ccscale.train.activity import Activity
from ccscale.train.hang import HangDetector

LIMIT = 10.0
STEPPING = Activity("n0", moves=40, step=7, doing="views", at_work=False, line="step.py:9, take")
WAITING = replace(STEPPING, doing="forward", moves=41, waiting=True, line="distributed_c10d.py:1, all_reduce")


def find(*looks: tuple[float, dict[int, Activity]]) -> str | None:
    watch, found = HangDetector(LIMIT), None
    for seconds, activities in looks:
        found = watch.find(activities, seconds)
    return found


def stand_still(*activities: Activity, seconds: float = 11.0) -> str | None:
    ranks = dict(enumerate(activities))
    return find((0.0, ranks), (seconds / 2, ranks), (seconds, ranks))


@pytest.mark.parametrize("hangs", [0, 1, 2])
def test_the_one_that_others_wait_for(hangs: int) -> None:
    activities = [replace(STEPPING if rank == hangs else WAITING, host=f"n{rank}") for rank in range(3)]
    assert stand_still(*activities) == (
        f"rank {hangs} on n{hangs} hangs: it has stood for 11 s at step 7, views (step.py:9, take), and others "
        "wait for it"
    )
    assert stand_still(*activities, seconds=9.0) is None


def test_of_those_that_are_behind_the_last_one() -> None:
    """Rank 0 waits for its device, which waits for rank 2: it is in no call that waits for others by its name."""
    found = stand_still(replace(STEPPING, moves=43), WAITING, STEPPING)
    assert found is not None
    assert found.startswith("rank 2 ")


def test_one_that_has_passed_something_on_and_hangs_then() -> None:
    """The others still wait for what rank 0 does next: it is ahead of them."""
    found = stand_still(replace(STEPPING, moves=45), WAITING)
    assert found is not None
    assert found.startswith("rank 0 ")


ALL_RIGHT: dict[str, tuple[Activity, ...]] = {
    "all compute": (STEPPING, STEPPING),
    "all wait, for the network": (WAITING, WAITING),
    "it is at work": (replace(STEPPING, at_work=True), WAITING),
    "the other is at work, ahead": (STEPPING, replace(STEPPING, moves=42, at_work=True)),
    "it has taken as long before": (replace(STEPPING, longest=4.0), WAITING),
    "it is alone": (STEPPING,),
}


@pytest.mark.parametrize("activities", ALL_RIGHT.values(), ids=ALL_RIGHT)
def test_what_is_no_hanging(activities: tuple[Activity, ...]) -> None:
    assert stand_still(*activities) is None


def test_who_moves_does_not_hang_and_who_has_waited_for_less_blames_nobody() -> None:
    moved = replace(STEPPING, moves=41)
    assert (
        find((0, {0: STEPPING, 1: WAITING}), (6, {0: moved, 1: WAITING}), (12, {0: moved, 1: WAITING}))
        is None
    )
    assert find((0, {0: STEPPING, 1: STEPPING}), (6, {0: STEPPING, 1: WAITING}), (12, {0: STEPPING})) is None
    # It came back from a call that waits for others: only then it began to stand where it is.
    assert (
        find((0, {0: WAITING, 1: WAITING}), (6, {0: STEPPING, 1: WAITING}), (12, {0: STEPPING, 1: WAITING}))
        is None
    )
