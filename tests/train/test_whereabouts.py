"""Which rank hangs, of all that stand still; where a rank's main thread is seen."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.distributed as torch_dist
from harness.ranks import run_ranks

from ccscale import dist
from ccscale.train.heartbeat import Clock
from ccscale.train.whereabouts import HangWatch, Sighting, Whereabouts

LIMIT = 10.0
STEPPING = Sighting("n0", moves=40, step=7, doing="views", at_work=False, line="step.py:9, take")
WAITING = replace(STEPPING, doing="forward", moves=41, waiting=True, line="distributed_c10d.py:1, all_reduce")


def find(*looks: tuple[float, dict[int, Sighting]]) -> str | None:
    watch, found = HangWatch(LIMIT), None
    for seconds, sightings in looks:
        found = watch.find(sightings, seconds)
    return found


def stand_still(*sightings: Sighting, seconds: float = 11.0) -> str | None:
    ranks = dict(enumerate(sightings))
    return find((0.0, ranks), (seconds / 2, ranks), (seconds, ranks))


@pytest.mark.parametrize("hangs", [0, 1, 2])
def test_the_one_that_others_wait_for(hangs: int) -> None:
    sightings = [replace(STEPPING if rank == hangs else WAITING, host=f"n{rank}") for rank in range(3)]
    assert stand_still(*sightings) == (
        f"rank {hangs} on n{hangs} hangs: it has stood for 11 s at step 7, views (step.py:9, take), and others "
        "wait for it"
    )
    assert stand_still(*sightings, seconds=9.0) is None


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


ALL_RIGHT: dict[str, tuple[Sighting, ...]] = {
    "all compute": (STEPPING, STEPPING),
    "all wait, for the network": (WAITING, WAITING),
    "it is at work": (replace(STEPPING, at_work=True), WAITING),
    "the other is at work, ahead": (STEPPING, replace(STEPPING, moves=42, at_work=True)),
    "it has taken as long before": (replace(STEPPING, longest=4.0), WAITING),
    "it is alone": (STEPPING,),
}


@pytest.mark.parametrize("sightings", ALL_RIGHT.values(), ids=ALL_RIGHT)
def test_what_is_no_hanging(sightings: tuple[Sighting, ...]) -> None:
    assert stand_still(*sightings) is None


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


def test_what_the_main_thread_notes() -> None:
    where = Whereabouts()
    assert (where.look().doing, where.look().at_work) == ("starting", True)
    where.at(3, "views")
    where.part("forward")
    seen = where.look()
    assert (seen.step, seen.doing, seen.at_work, seen.waiting, seen.moves) == (3, "forward", False, False, 2)
    assert Sighting.from_text(seen.as_text()) == seen
    where.at(3, "saving", at_work=True)
    longest = where.look().longest
    where.at(4, "views")
    assert where.look().longest == longest  # a save is no measure


def look_at(call: Callable[[], object], until: Callable[[Sighting], bool]) -> Sighting:
    """Call in this thread, and look at it from another one until it is seen where it should be."""
    where, seen = Whereabouts(), []
    where.at(1, "forward")

    def look() -> None:
        while not seen or not until(seen[-1]):
            seen.append(where.look())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    call()
    watcher.join(60)
    return seen[-1]


def wait_for_the_other(rank: int) -> list[bool]:
    """Rank 0 is late for each call; the other is seen to wait, in each of the ways that there are."""
    calls = [
        lambda: dist.sum_integers([1]),
        lambda: torch_dist.all_reduce(torch.ones(3)),
        lambda: dist.start_sum(torch.ones(3)).wait(),
        lambda: dist.on_rank_zero(lambda: None),
    ]
    met = torch_dist.distributed_c10d._get_default_store()
    seen = []
    for number, call in enumerate(calls):
        if rank == 0:
            met.wait([f"seen {number}"])
            call()
        else:
            told = threading.Event()

            def until(sighting: Sighting, told: threading.Event = told, number: int = number) -> bool:
                if sighting.waiting and not told.is_set():
                    told.set()
                    met.set(f"seen {number}", "yes")
                return told.is_set()

            seen.append(look_at(call, until).waiting)
    return seen


@pytest.mark.dist
def test_who_waits_for_others_is_seen_to(tmp_path: object) -> None:
    assert run_ranks(2, wait_for_the_other)[1] == [True] * 4


def test_who_compiles_is_at_work() -> None:
    def backend(module: object, examples: object) -> object:
        done.wait(60)
        return module.forward  # type: ignore[attr-defined]

    done = threading.Event()

    def until(sighting: Sighting) -> bool:
        if sighting.at_work:
            done.set()
        return sighting.at_work

    compiled = torch.compile(lambda x: x + 1, backend=backend)
    assert look_at(lambda: compiled(torch.ones(2)), until).at_work
    assert not look_at(lambda: compiled(torch.ones(2)), lambda _: True).at_work


def test_the_clock_does_not_count_what_all_were_stopped_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 500.0, 501.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    clock = Clock(2.0)
    assert [clock.read() for _ in range(3)] == [1.0, 3.0, 4.0]
