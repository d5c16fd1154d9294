"""Kills a command with SIGKILL at random moments and starts it again, until it has been killed often enough.

The command runs in a process group of its own, its worker processes included. Sometimes all of the group is
killed, as a machine does that loses its power; sometimes only the process that was started, as a system does that
is short of memory: its workers must then end by themselves.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ORPHAN_SECONDS = 10.0


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes
    ----------
    round
        How often the command had come to its own end before.
    life
        Seconds from the start of the process to its kill.
    target
        ``"group"`` or ``"parent"``.
    state
        What `observe` saw right after.
    """

    round: int
    life: float
    target: str
    state: dict[str, Any]


def kill_often(
    command: Sequence[str],
    kills: int,
    rng: random.Random,
    draw_life: Callable[[], float],
    observe: Callable[[], dict[str, Any]],
    finished: Callable[[], None],
    restart: Callable[[], None],
    told: Callable[[Kill], None] = lambda kill: None,
) -> list[Kill]:
    """Start a command again and again, kill it `kills` times in all, then let it come to its end.

    Parameters
    ----------
    command
        What is started, each time the same.
    kills
        Number of kills.
    rng
        Draws whom to kill.
    draw_life
        Draws the seconds until the next kill.
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
        If the command fails, or a worker process outlives its parent.
    """
    done: list[Kill] = []
    groups: list[int] = []
    rounds = 0
    while True:
        last = len(done) == kills
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        groups.append(process.pid)
        start, life = time.monotonic(), None if last else draw_life()
        try:
            _, said = process.communicate(timeout=life)
        except subprocess.TimeoutExpired:
            target = rng.choice(["group", "parent"])
            lived = time.monotonic() - start
            (os.killpg if target == "group" else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
            done.append(Kill(rounds, round(lived, 3), target, observe()))
            told(done[-1])
            continue
        if process.returncode != 0:
            raise RuntimeError(f"the command ended with code {process.returncode}: {said}")
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
    while left := [group for group in left if _lives(group)]:
        if time.monotonic() > end:
            raise RuntimeError(f"processes of the groups {left} outlive their parents")
        time.sleep(0.05)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
