"""Kills a command with SIGKILL at chosen moments and starts it again, until it has been killed often enough.

Sometimes all of its processes are killed, as a machine does that loses its power; sometimes one process alone, as a
system does that is short of memory. Its workers must then end by themselves. The other ranks should: those that do
not are killed after `SURVIVOR_SECONDS`, and the record says so.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lives import Life, is_alive

ORPHAN_SECONDS = 10.0
SURVIVOR_SECONDS = 30.0
LIMIT = 3600.0
"""Seconds that a life which is not killed may last."""


@dataclass(frozen=True)
class Moment:
    """When a life is to end: so many seconds after its start, or later, when something is first seen.

    Attributes
    ----------
    after
        Seconds from the start.
    event
        What is waited for from then on; nothing if empty.
    seen
        Tells whether it can be seen.
    delay
        Seconds more.
    """

    after: float
    event: str = ""
    seen: Callable[[], bool] = lambda: True
    delay: float = 0.0


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes
    ----------
    round
        How often the command had come to its own end before.
    ranks
        How many there were.
    life
        Seconds from the start to the kill.
    event
        What was waited for, or empty.
    target
        ``"all"``, ``"parent"`` (of the workers; there was one rank) or ``"rank R"``.
    survivors
        What became of the other ranks: empty if there were none, or how they ended.
    state
        What `observe` saw right after the kill.
    """

    round: int
    ranks: int
    life: float
    event: str
    target: str
    survivors: str
    state: dict[str, Any]


def kill_often(
    start: Callable[[], Life],
    kills: int,
    rng: random.Random,
    draw: Callable[[], Moment],
    observe: Callable[[], dict[str, Any]],
    finished: Callable[[], None],
    restart: Callable[[], None],
    told: Callable[[Kill], None] = lambda kill: None,
) -> list[Kill]:
    """Start a command again and again, kill it `kills` times in all, then let it come to its end.

    Parameters
    ----------
    start
        Starts it.
    kills
        Number of kills.
    rng
        Draws whom to kill.
    draw
        Draws the moment of the next kill.
    observe
        Tells what is there, for the log.
    finished
        Called each time the command has come to its end by itself, to look at what it made.
    restart
        Called where that was before the last kill: clears all away, so that the next start begins anew.
    told
        Called after each kill.

    Returns
    -------
    list of Kill
        In their order.

    Raises
    ------
    RuntimeError
        If the command fails or does not end, or a worker process outlives its parent.
    """
    done: list[Kill] = []
    groups: list[int] = []
    rounds = 0
    while True:
        last = len(done) == kills
        moment = None if last else draw()
        life = start()
        groups += life.groups
        if moment is not None and _reach(moment, life):
            lived, target = life.seconds, _kill_some(life, rng)
            state = observe()
            survivors = _end_survivors(life, target)
            done.append(Kill(rounds, life.ranks, round(lived, 3), moment.event, target, survivors, state))
            told(done[-1])
            continue
        life.finish(LIMIT)
        rounds += 1
        finished()
        if last:
            break
        restart()
    wait_for_end(groups)
    return done


def wait_for_end(groups: Sequence[int]) -> None:
    """Wait for all processes of some groups to end; raise RuntimeError if some do not."""
    end = time.monotonic() + ORPHAN_SECONDS
    left = list(groups)
    while left := [group for group in left if is_alive(group)]:
        if time.monotonic() > end:
            raise RuntimeError(f"processes of the groups {left} outlive their parents")
        time.sleep(0.05)


def _reach(moment: Moment, life: Life) -> bool:
    """Wait for a moment; tell whether the command still runs then."""
    seen = None
    while life.code() is None:
        if seen is None and life.seconds >= moment.after and moment.seen():
            seen = life.seconds
        if seen is not None and life.seconds >= seen + moment.delay:
            return True
        time.sleep(0.001)
    return False


def _kill_some(life: Life, rng: random.Random) -> str:
    """Kill all, or one process; return the target's name."""
    everybody, rank = rng.random() < 0.5, rng.randrange(life.ranks)
    if everybody:
        life.kill_group()
        return "all"
    life.kill_process(rank)
    return "parent" if life.ranks == 1 else f"rank {rank}"


def _end_survivors(life: Life, target: str) -> str:
    """Wait for the ranks that were not killed to end, or kill them; return which it was."""
    start = time.monotonic()
    ended = life.wait(SURVIVOR_SECONDS)
    if not ended:
        life.kill_group()
        life.wait(ORPHAN_SECONDS)
    if not target.startswith("rank"):
        return ""
    return f"{'ended' if ended else 'killed'} after {time.monotonic() - start:.1f} s"
