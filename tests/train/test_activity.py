"""What a rank's main thread is seen at."""

import threading
from collections.abc import Callable

import pytest
import torch
import torch.distributed as torch_dist
from harness.ranks import run_ranks

from ccscale import dist
from ccscale.train.activity import Activity, ActivityRecorder


def test_what_the_main_thread_notes() -> None:
    recorder = ActivityRecorder()
    assert (recorder.look().doing, recorder.look().at_work) == ("starting", True)
    recorder.begin(3, "views")
    recorder.part("forward")
    seen = recorder.look()
    assert (seen.step, seen.doing, seen.at_work, seen.waiting, seen.moves) == (3, "forward", False, False, 2)
    assert Activity.from_text(seen.as_text()) == seen
    recorder.begin(3, "saving", at_work=True)
    longest = recorder.look().longest
    recorder.begin(4, "views")
    assert recorder.look().longest == longest  # a save is no measure


def look_at(call: Callable[[], object], until: Callable[[Activity], bool]) -> Activity:
    """Call in this thread, and look at it from another one until it is seen where it should be."""
    recorder, seen = ActivityRecorder(), []
    recorder.begin(1, "forward")

    def look() -> None:
        while not seen or not until(seen[-1]):
            seen.append(recorder.look())

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

            def until(activity: Activity, told: threading.Event = told, number: int = number) -> bool:
                if activity.waiting and not told.is_set():
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

    def until(activity: Activity) -> bool:
        if activity.at_work:
            done.set()
        return activity.at_work

    compiled = torch.compile(lambda x: x + 1, backend=backend)
    assert look_at(lambda: compiled(torch.ones(2)), until).at_work
    assert not look_at(lambda: compiled(torch.ones(2)), lambda _: True).at_work
