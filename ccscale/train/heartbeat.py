"""A rank that dies ends the others, by name and in bounded time: none is left waiting for it for ever.

Every rank's thread leaves a sign of life in the store where the ranks met, every few seconds. Rank 0's looks for
ranks that have left none for too long, and writes into the store which one is lost; every rank's thread reads that,
and the store's silence too, and ends its process with the exit code `LOST`: the main thread may sit in a collective
call that no exception reaches. Keys::

    beat/RANK     how many signs so far, and the host; "done" when the rank has come to its end
    broken        a collective call has failed on some rank: the limit is shorter from now on
    lost          the sentence that says who
    stopped       a rank was told to stop where there is nothing to save, and has ended
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as torch_dist

from ccscale.errors import Fault, InputError
from ccscale.leaving import LOST, STOPPED
from ccscale.train.preempt import Stopped

BEATS = 6  # signs of life within the limit, at least
SECONDS = 5.0  # between two of them, at most
SHORT = 3  # of them missing are enough where a collective call has failed: somebody is gone


class Heartbeat:
    """A rank's thread.

    Parameters
    ----------
    store
        Where the ranks met; a connection of its own is made to it.
    rank, world
        Which of how many.
    limit
        Seconds without a sign of life after which a rank counts as lost.
    on_lost
        Called before the process ends.
    """

    def __init__(
        self,
        store: torch_dist.Store,
        rank: int,
        world: int,
        limit: float,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = torch_dist.PrefixStore("heartbeat", store.clone())
        self._rank, self._world, self._limit, self._on_lost = rank, world, limit, on_lost
        self._interval = min(limit / BEATS, SECONDS)
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._count = 0
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, before the ranks join: whoever is expected to have a sign of life has one."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Take leave: from now on this rank is not missed."""
        self._end.set()
        with self._lock, contextlib.suppress(RuntimeError):  # the store may be gone
            self._store.set(f"beat/{self._rank}", "done")

    def stop_all(self) -> None:
        """Have the others stop, as this rank was told to: none of them has anything to save yet."""
        self._end.set()  # this rank speaks for itself
        with self._lock, contextlib.suppress(RuntimeError):  # the store may be gone
            self._store.set("stopped", "yes")
        if self._rank == 0:  # the store is in this process: the others are yet to read of it
            self._wait_for_others(2 * self._interval)

    def _wait_for_others(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with contextlib.suppress(RuntimeError):
            others = [f"beat/{rank}" for rank in range(1, self._world)]
            while time.monotonic() < end and any(beat != b"done" for beat in self._store.multi_get(others)):
                time.sleep(0.1)

    def _leave_stopped(self) -> None:
        """End the process: the main thread may wait for a rank that has stopped."""
        self._store.set(f"beat/{self._rank}", "done")
        if self._rank == 0:
            self._wait_for_others(2 * self._interval)
        os._exit(STOPPED)

    def tell(self, error: BaseException) -> None:
        """Tell the others what this rank ends of; or, if a collective call of its own broke, find out who is gone.

        In the latter case the process ends here, as all others do, if it turns out who.
        """
        broken = is_broken_connection(error)
        with contextlib.suppress(RuntimeError):  # the store may be gone
            if broken:
                self._store.set("broken", "yes")
            else:
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                text = f"rank {self._rank} on {socket.gethostname()} has failed: {what}"
                self._store.compare_set("lost", "", text)
        if broken:
            self._thread.join(2 * self._limit)

    def _run(self) -> None:
        reached = time.monotonic()
        while not self._end.wait(self._interval):
            try:
                with self._lock:
                    if self._end.is_set():
                        return
                    self._beat()
                    if self._rank == 0:
                        self._look()
                    if self._store.check(["stopped"]):
                        self._leave_stopped()
                    if self._store.check(["lost"]):
                        self._leave(self._store.get("lost").decode(), told=self._rank == 0)
                reached = time.monotonic()
            except RuntimeError as error:
                if time.monotonic() - reached > self._limit:
                    reason = str(error).splitlines()[0]
                    self._leave(
                        f"rank 0, or the way to it, is gone for {self._limit:.0f} s ({reason})", told=True
                    )

    def _beat(self) -> None:
        self._count += 1
        self._store.set(f"beat/{self._rank}", f"{self._count} {socket.gethostname()}")

    def _look(self) -> None:
        """Find a rank whose sign of life is as it was for too long."""
        now = time.monotonic()
        limit = SHORT * self._interval if self._store.check(["broken"]) else self._limit
        ranks = range(1, self._world)
        for rank, beat in zip(ranks, self._store.multi_get([f"beat/{rank}" for rank in ranks]), strict=True):
            before, since = self._seen.get(rank, (b"", now))
            if beat != before:
                self._seen[rank] = (beat, now)
            elif beat != b"done" and now - since > limit:
                host = beat.decode().partition(" ")[2]
                text = f"rank {rank} on {host} is lost: no sign of life for {now - since:.0f} s"
                self._store.compare_set("lost", "", text)
                return

    def _leave(self, what: str, told: bool) -> None:
        """End the process. The rank that found it out speaks of it."""
        if told:
            where = f" on rank {self._rank}" if self._rank else ""
            print(
                f"error{where}: {what}; all ranks end: the same command goes on from the newest checkpoint",
                file=sys.stderr,
                flush=True,
            )
        self._on_lost()
        if self._rank == 0:  # the store is in this process: the others are yet to read of it
            time.sleep(2 * self._interval)
        os._exit(LOST)


@contextmanager
def heartbeat(
    store: torch_dist.Store | None,
    rank: int,
    world: int,
    limit: float,
    on_lost: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Watch over the ranks for the length of the context; nothing is done for one rank alone.

    What all ranks raise together (`InputError`, `Fault`) ends none of the others; any other exception does.
    `Stopped` ends them as it ends this one.
    """
    if store is None:
        yield
        return
    beat = Heartbeat(store, rank, world, limit, on_lost)
    beat.start()
    try:
        yield
    except (InputError, Fault):
        raise
    except Stopped:
        beat.stop_all()
        raise
    except BaseException as error:
        beat.tell(error)
        raise
    finally:
        beat.stop()


def is_broken_connection(error: BaseException) -> bool:
    """Tell whether an exception says that a collective call failed, not what this rank did."""
    if isinstance(error, torch_dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "NCCL", "Connection"))
