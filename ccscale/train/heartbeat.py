"""Heartbeat of the ranks: if one dies or hangs, all others exit within bounded time and name it.

On every rank a thread writes a heartbeat, and the position of the main thread, into the rendezvous store every
few seconds. Rank 0's thread looks for ranks without a heartbeat for too long, or whose main thread makes no
progress while others wait for it, and writes into the store which one is lost; a rank that exits with an
exception writes that it has failed. Every rank's thread reads both, notices if the store does not respond, and
ends its process, since the main thread may be in a collective call that no exception reaches. The exit code is
`LOST` if a rank is lost, so that a scheduler restarts the job, and `FAULT` if one has failed, which would fail
again. The same holds for a rank that was asked to stop when there was nothing to save (`preempt.Stopped`). Keys::

    beat/RANK     number of heartbeats so far, and an `Activity`; "done" when the rank has finished
    broken        a collective call has failed on some rank: the time limit is shorter from now on
    lost, failed  a sentence that names the rank
    stopped       some rank was asked to stop
"""

import contextlib
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as torch_dist

from ccscale import dist
from ccscale.errors import Fault, InputError
from ccscale.exit_codes import FAULT, LOST, STOPPED
from ccscale.preempt import Stopped
from ccscale.train.activity import Activity, ActivityRecorder
from ccscale.train.hang import HangDetector

BEATS = 6  # signs of life within the limit, at least
SECONDS = 5.0  # between two of them, at most
SHORT = 3  # of them missing are enough where a collective call has failed: somebody is gone
POLL_SECONDS = 0.05
TIDY_SECONDS = 90.0
"""How long a rank that has failed may take to tidy up: a thread that writes a checkpoint is waited for."""
DONE = "done"
WORDS = {"failed": FAULT, "stopped": STOPPED, "lost": LOST}
"""Keys that say why all ranks end, and their exit codes."""


class Clock:
    """A clock that is read often and does not count the time during which all processes were suspended.

    Parameters
    ----------
    longest
        Maximum time counted between two readings.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._read, self._time = time.monotonic(), 0.0

    def read(self) -> float:
        """Return the time."""
        now = time.monotonic()
        self._time += min(now - self._read, self._longest)
        self._read = now
        return self._time


class Heartbeat:
    """The heartbeat thread of a rank; a single rank has none.

    Parameters
    ----------
    store
        The rendezvous store, to which the thread opens its own connection; None for a single rank.
    rank, world
        This rank, and the number of ranks.
    limit
        Seconds without a heartbeat after which a rank counts as lost.
    on_lost
        Called before the process ends as a rank is lost.

    Attributes
    ----------
    activity
        In which the main thread records what it does.
    """

    def __init__(
        self,
        store: torch_dist.Store | None = None,
        rank: int = 0,
        world: int = 1,
        limit: float = math.inf,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._alone = store is None
        self._store = torch_dist.PrefixStore(
            "heartbeat", torch_dist.HashStore() if store is None else store.clone()
        )
        self._rank, self._world, self._limit, self._on_lost = rank, world, limit, on_lost
        self._interval = min(limit / BEATS, SECONDS)
        self._seen: dict[int, tuple[bytes, float]] = {}
        self.activity, self._hangs = ActivityRecorder(), HangDetector(limit)
        self._count = 0
        self._reached, self._why = 0, "no answer"
        self._clock = Clock(2 * self._interval)
        self._tidying: threading.Timer | None = None
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._guard = threading.Thread(target=self._listen, name="heartbeat's guard", daemon=True)

    def start(self) -> None:
        """Start before the ranks join, so that every expected rank has a heartbeat."""
        if not self._alone:
            self._beat()
            self._thread.start()
            self._guard.start()

    def stop(self) -> None:
        """Sign off: from now on this rank is not missed."""
        self._end.set()
        if self._tidying is not None:  # it has taken leave, and rank 0 may be gone with the store
            self._tidying.cancel()
            return
        if not self._alone:
            self._have_store(lambda: self._store.set(f"beat/{self._rank}", DONE))

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Report an exception to the others at once, unless all ranks raise it together.

        To be entered inside contexts whose cleanup may wait for other ranks.
        """
        try:
            yield
        except BaseException as error:
            if not self._alone and not dist.is_of_all_ranks(error):
                self._tell(error)
            raise

    def _tell(self, error: BaseException) -> None:
        """Report to the others why this rank ends; or, if its collective call failed, find out which rank is gone.

        In the latter case, if that rank is found, the process ends here, like all others.
        """
        if self._tidying is not None:
            return
        word = "stopped" if isinstance(error, Stopped) else "failed"
        self._tidying = threading.Timer(TIDY_SECONDS, self._give_up, [error, WORDS[word]])
        self._tidying.daemon = True
        if is_broken_connection(error):
            with contextlib.suppress(RuntimeError):  # the store may be gone
                self._store.set("broken", "yes")
            self._thread.join(2 * self._limit)
        self._end.set()  # its thread is not to end this process, which has more to say
        self._tidying.start()
        text = f"rank {self._rank} on {socket.gethostname()} has failed: {_first_line(error)}"

        def tell() -> None:
            self._store.compare_set(word, "", text)
            self._let_others_read()

        self._have_store(tell)

    def _give_up(self, error: BaseException, code: int) -> None:
        """End the process without cleanup, which would wait for ranks that have ended."""
        if code == FAULT:
            where = f" on rank {self._rank}" if self._rank else ""
            print(f"error{where}: {_first_line(error)}", file=sys.stderr, flush=True)
        os._exit(code)

    def _have_store(self, call: Callable[[], None]) -> None:
        """Call a function that uses the store, unless the store is gone or the thread is waiting for it."""
        if self._lock.acquire(timeout=self._limit):
            try:
                with contextlib.suppress(RuntimeError):
                    call()
            finally:
                self._lock.release()

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            try:
                with self._lock:
                    if self._end.is_set():
                        return
                    self._beat()
                    for word, code in WORDS.items():
                        if self._store.check([word]):
                            self._leave(self._store.get(word).decode(), self._rank == 0, code)
                    if self._rank == 0:
                        self._look()
                self._reached += 1
            except RuntimeError as error:
                self._why = str(error).partition("\n")[0]

    def _listen(self) -> None:
        """End the process if the store has not responded for too long: a call to it may never return."""
        clock, before, since = Clock(2 * self._interval), -1, 0.0
        while not self._end.wait(self._interval):
            now = clock.read()
            if self._reached != before:
                before, since = self._reached, now
            elif now - since > self._limit:
                what = f"rank 0, or the way to it, is gone for {self._limit:.0f} s ({self._why})"
                self._leave(what, True, LOST)

    def _beat(self) -> None:
        self._count += 1
        self._store.set(f"beat/{self._rank}", f"{self._count} {self.activity.look().as_text()}")

    def _look(self) -> None:
        """Find a rank whose heartbeat has not changed for too long, or whose main thread makes no progress."""
        now = self._clock.read()
        limit = SHORT * self._interval if self._store.check(["broken"]) else self._limit
        beats = [f"beat/{rank}" for rank in range(self._world)]
        if not self._store.check(beats):
            return  # one has only just joined
        activities = {}
        for rank, beat in enumerate(self._store.multi_get(beats)):
            if beat == DONE.encode():
                continue
            activities[rank] = seen = Activity.from_text(beat.decode().partition(" ")[2])
            before, since = self._seen.get(rank, (b"", now))
            if beat != before:
                self._seen[rank] = (beat, now)
            elif now - since > limit:
                text = f"rank {rank} on {seen.host} is lost: no sign of life for {now - since:.0f} s"
                self._store.compare_set("lost", "", text)
                return
        hanging = self._hangs.find(activities, now)
        if hanging is not None:
            self._store.compare_set("lost", "", hanging)

    def _leave(self, what: str, told: bool, code: int) -> None:
        """End the process; the rank that found the failure reports it."""
        if told and code != STOPPED:
            where = f" on rank {self._rank}" if self._rank else ""
            print(
                f"error{where}: {what}; all ranks exit: the same command resumes from the newest checkpoint",
                file=sys.stderr,
                flush=True,
            )
        if code == LOST:
            self._on_lost()
        with contextlib.suppress(RuntimeError):
            if self._rank == 0 or code != LOST:
                self._let_others_read()
        os._exit(code)

    def _let_others_read(self) -> None:
        """Give all others time to read why they end.

        The store is in rank 0's process; and if one process ends, the NCCL watchdogs of the others may kill theirs,
        as they do when a rank is lost.
        """
        self._store.set(f"beat/{self._rank}", DONE)
        end = time.monotonic() + 2 * self._interval
        beats = [f"beat/{rank}" for rank in range(self._world)]
        while time.monotonic() < end and not (
            self._store.check(beats) and {*self._store.multi_get(beats)} == {DONE.encode()}
        ):
            time.sleep(POLL_SECONDS)
        if self._rank == 0:
            time.sleep(10 * POLL_SECONDS)  # the others have asked the store for the last time, too


@contextmanager
def heartbeat(
    store: torch_dist.Store | None,
    rank: int,
    world: int,
    limit: float,
    on_lost: Callable[[], None] = lambda: None,
) -> Iterator[Heartbeat]:
    """Watch the ranks during the context."""
    beat = Heartbeat(store, rank, world, limit, on_lost)
    beat.start()
    try:
        with beat.telling():
            yield beat
    finally:
        beat.stop()


def _first_line(error: BaseException) -> str:
    text = f"{error}" if isinstance(error, InputError | Fault) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]


def is_broken_connection(error: BaseException) -> bool:
    """Return whether an exception comes from a failed collective call, not from this rank's own work."""
    if isinstance(error, torch_dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "NCCL", "Connection"))
