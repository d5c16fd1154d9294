"""Saves checkpoints in the background; see the package for the sequence.

Every rank has a saver, and all of them are in the same state at the same step: the progress of a rank's thread is
communicated by two integers that are summed over the ranks, and changes the state only then.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ccscale import dist
from ccscale.checkpoint.commit import CheckpointContent, clear_staging, commit, leave_staging, rate
from ccscale.checkpoint.layout import FOLDER, Places
from ccscale.checkpoint.lock import LockLost
from ccscale.checkpoint.rank_files import write_files
from ccscale.checkpoint.retention import is_best, list_kept, measures_of
from ccscale.checkpoint.search import Search
from ccscale.checkpoint.snapshot import take_snapshot
from ccscale.config import Config
from ccscale.engine.adapter import Engine
from ccscale.engine.guard import NotFinite
from ccscale.errors import Fault
from ccscale.threads import background

POLL_SECONDS = 0.02
SLOW_SECONDS = 30.0
CLOSE_SECONDS = 60.0


@dataclass
class Save:
    """A save in progress."""

    content: CheckpointContent
    work: "Future[str | None] | None"
    """What this rank's thread does: writes, and on rank 0 commits then."""
    committing: bool = False
    """Whether all ranks have written."""
    last: bool = False
    """Whether the run ends with it: that it failed is a fault then."""

    @property
    def step(self) -> int:
        return self.content.step


class Saver:
    """Saves the checkpoints of a run.

    Parameters
    ----------
    engine
        Whose state is saved.
    config
        The run's config.
    found
        What was found at the start.
    may_write
        Raises `LockLost` where another process writes the run by now.

    Attributes
    ----------
    saved
        Step of the newest complete checkpoint, 0 if there is none.
    failures
        Saves that have failed.
    seconds
        What training has waited for, in all.
    """

    def __init__(
        self, engine: Engine, config: Config, found: Search, may_write: Callable[[], None] = lambda: None
    ) -> None:
        self.engine, self.config, self._may_write = engine, config, may_write
        self.saved = found.newest.step if found.newest else 0
        self.failures = 0
        self.seconds = 0.0
        self._damaged = set(found.damaged)
        self._tried, self._begun = self.saved, time.monotonic()
        self._under_way: Save | None = None
        self._failure = ""
        dist.on_rank_zero(lambda: clear_staging(config))

    @property
    def is_busy(self) -> bool:
        """Whether a save is under way."""
        return self._under_way is not None

    @property
    def is_late(self) -> bool:
        """Whether the last save was begun `train.save_minutes` ago; the first rank's clock counts for all."""
        minutes = self.config.train.save_minutes
        if minutes is None or self.is_busy or dist.rank() > 0:
            return False
        return time.monotonic() - self._begun >= 60 * minutes

    def is_due(self, step: int, late: bool) -> bool:
        """Return whether a checkpoint is to be saved after a step; one that failed is tried again with the next."""
        return late or step - self._tried >= self.config.train.save_every

    def votes(self) -> tuple[int, int]:
        """Return this rank's contribution to the sums of `count`: thread finished, thread failed."""
        save = self._under_way
        if save is None or save.work is None or not save.work.done():
            return 0, 0
        error = save.work.exception()
        if isinstance(error, LockLost):  # the folder is another process's now: nothing is tidied up there
            raise error
        return int(error is None), int(error is not None)

    def count(self, done: int, failed: int) -> None:
        """Continue with the save that is under way; all ranks call it together, with the sums of their votes."""
        save = self._under_way
        if save is None or done + failed < (1 if save.committing else dist.world()):
            return
        if failed:
            self._fail(save)
        elif save.committing:
            self._complete(save)
        else:
            save.committing, save.work = True, self._commit(save) if dist.rank() == 0 else None

    def begin(
        self,
        step: int,
        state: Mapping[str, Any],
        facts: dict[str, Any],
        marks: Mapping[str, Any] | None = None,
        last: bool = False,
    ) -> None:
        """Copy the state of this step and begin to write it; all ranks call it together.

        A save that is still under way is waited for.

        Parameters
        ----------
        step
            Steps done.
        state
            What a resume needs besides weights and optimizer.
        facts
            Goes into the exported network's config.
        marks
            What else its marker says; see `CheckpointContent`.
        last
            Whether the run ends with it.
        """
        self.finish()
        with self._timed():
            snapshot = take_snapshot(self.engine, {"step": step, **state})
            staging = Places.of(self.config, step).staging
            work: Future[str | None] = background(partial(write_files, staging, dist.rank(), snapshot))
            self._under_way = Save(CheckpointContent(step, facts, snapshot, marks or {}), work, last=last)
            self._tried = step
            self._begun = time.monotonic()

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        facts: dict[str, Any],
        marks: Mapping[str, Any] | None = None,
    ) -> None:
        """Save a checkpoint and wait until it is complete; all ranks call it together.

        Raises
        ------
        Fault
            If it cannot be completed.
        """
        self.finish()
        if self.saved != step:
            self.begin(step, state, facts, marks, last=True)
            self.finish()
        if self.saved != step:
            raise Fault(
                f"the checkpoint of step {step} could not be written: {self._failure}; {self._newest()}: "
                f"free some space in {self.config.run_folder}, or make it writable, and run the same "
                "command to resume from there"
            ).told_by(0)

    def finish(self) -> None:
        """Wait until nothing is under way; all ranks call it together."""
        begun, told = time.monotonic(), False
        with self._timed():
            while self._under_way is not None:
                if self._under_way.work is not None:
                    wait([self._under_way.work], POLL_SECONDS)
                else:
                    time.sleep(POLL_SECONDS)
                if not told and time.monotonic() - begun > SLOW_SECONDS:
                    dist.say(f"waiting until the checkpoint of step {self._under_way.step} is written")
                    told = True
                self.count(*dist.sum_integers(self.votes()))

    def rate(self, step: int, summary: Mapping[str, Any] | None) -> bool:
        """Note the evaluation of a step, to keep the best checkpoints; all ranks call it together.

        Parameters
        ----------
        step
            Steps done.
        summary
            What `evaluate.tally.Tally.summary` found, on rank 0; with ``chosen``, the cluster heads that serve, if
            there are several.

        Returns
        -------
        bool
            Whether it is the best so far, and there is no checkpoint of this step yet: save one, and rate it again.
        """
        save = self._under_way
        measures, heads = measures_of(summary), tuple((summary or {}).get("chosen", ()))
        if save is not None and save.step == step:
            save.content.measures, save.content.heads = measures, heads
            return False  # it is not committed yet: that begins at the end of a step
        if self.saved == step and step:
            if measures:
                _tell(rate(self.config, step, measures, self._damaged, heads))
            return False
        folder = self.config.run_folder / FOLDER

        def ask() -> bool:
            return bool(measures) and is_best(list_kept(folder, step, self._damaged), measures)

        return dist.on_rank_zero(ask)

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Complete the save in progress if the other ranks can, or at least leave no thread that writes."""
        if dist.world() == 1 or error is None or isinstance(error, NotFinite):
            self.finish()
            if dist.rank() == 0 and not isinstance(error, LockLost):
                leave_staging(self.config)
        elif self._under_way is not None and self._under_way.work is not None:
            wait([self._under_way.work], CLOSE_SECONDS)

    def _commit(self, save: Save) -> "Future[str | None]":
        call = partial(commit, self.config, save.content, dist.world(), self._damaged, self._may_write)
        return background(call)

    def _complete(self, save: Save) -> None:
        self.saved, self._under_way = save.step, None
        self._damaged.discard(Places.of(self.config, save.step).final.name)
        if save.work is not None:
            _tell(save.work.result())

    def _fail(self, save: Save) -> None:
        error = save.work.exception() if save.work is not None and save.work.done() else None
        if dist.rank() == 0:  # all threads are done with it, and no rank begins another one before it is gone
            shutil.rmtree(Places.of(self.config, save.step).staging, ignore_errors=True)
        reasons = dist.all_objects(None if error is None else str(error) or type(error).__name__)
        rank, reason = next((rank, reason) for rank, reason in enumerate(reasons) if reason is not None)
        self._failure = reason if rank == 0 else f"{reason} (rank {rank})"
        self._under_way = None
        self.failures += 1
        if save.last:
            return
        times = "" if self.failures == 1 else f" ({self.failures} saves have failed)"
        dist.say(
            f"warning: the checkpoint of step {save.step} could not be written: {self._failure}{times}; "
            f"the run continues, and {self._newest()}"
        )

    def _newest(self) -> str:
        return (
            f"the newest complete one is step {self.saved}" if self.saved else "there is no complete one yet"
        )

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begun


def _tell(warning: str | None) -> None:
    if warning is not None:
        dist.say(f"warning: {warning}")
