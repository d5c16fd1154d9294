"""Commits a checkpoint, on rank 0, after all ranks have written their files.

    verify the files -> export the network -> marker -> flush the log -> rename -> delete expired checkpoints

Before the rename a run has its old checkpoints, after it also the new one: at no moment has it none.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccscale import atomic
from ccscale.checkpoint.layout import FOLDER, STAGING, TAG, UNIVERSAL, Places
from ccscale.checkpoint.marker import read_marker, seal, write_marker
from ccscale.checkpoint.metrics_file import METRICS
from ccscale.checkpoint.rank_files import collect_notes
from ccscale.checkpoint.retention import discard, retain
from ccscale.checkpoint.run import versions
from ccscale.checkpoint.snapshot import Snapshot
from ccscale.config import Config
from ccscale.engine.adapter import STATES, WEIGHTS
from ccscale.errors import InputError
from ccscale.model.average import served
from ccscale.model.export import export
from ccscale.model.teacher import without_training

WEIGHTS_FILE = f"{TAG}/{STATES}"


@dataclass
class CheckpointContent:
    """The parts of a checkpoint that the ranks do not write.

    Attributes
    ----------
    step
        Steps done.
    facts
        Goes into the exported network's config.
    snapshot
        This rank's; in that of rank 0 are the network's weights.
    marks
        What else the marker says of this run's checkpoints: ``pins``, ``serves``.
    measures, heads
        Of the evaluation of this step, if there was one by now: its figures, and the cluster heads that it chose.
    """

    step: int
    facts: Mapping[str, Any]
    snapshot: Snapshot
    marks: Mapping[str, Any]
    measures: Mapping[str, float] = field(default_factory=dict)
    heads: Sequence[int] = ()


def commit(
    config: Config,
    content: CheckpointContent,
    world: int,
    damaged: Collection[str],
    may_write: Callable[[], None],
) -> str | None:
    """Commit a checkpoint from the files of all ranks; see the module.

    Parameters
    ----------
    config, content, world
        The run's config, what is saved, and the number of ranks.
    damaged
        Names of checkpoints that are known not to be complete.
    may_write
        Called before the run's checkpoints are changed; raises where this process may no longer write.

    Returns
    -------
    str or None
        What went wrong after the checkpoint was complete.

    Raises
    ------
    OSError
        If it could not be completed.
    """
    places = Places.of(config, content.step)
    written = collect_notes(places.staging, world)
    weights = served(without_training(content.snapshot[WEIGHTS_FILE].restore()[WEIGHTS]))
    export(places.staging, config.model, config.views, weights, content.facts)
    marker = {
        "step": content.step,
        "world": world,
        "zero": config.train.zero,
        "evaluation": dict(content.measures),
        "versions": versions(),
        "config": config.model_dump(mode="json"),
        **content.marks,
    }
    if content.heads:
        marker["heads"] = list(content.heads)
    seal(places.staging, marker, written)
    _flush_log(config.run_folder)
    may_write()
    if places.final.exists():  # one that was found damaged: a complete one would have been gone on from
        discard(places.final)
    os.rename(places.staging, places.final)
    try:
        atomic.sync_folder(places.folder)
    except OSError as error:  # it is there, but a power cut might undo the renaming: none is deleted for it
        return f"{places.folder} could not be flushed to the disk ({error}); no old checkpoint is deleted"
    return tidy(config, content.step, {*damaged} - {places.final.name})


def _flush_log(run: Path) -> None:
    """Flush the lines of the steps before a checkpoint to the disk: a power cut keeps both, or the lines."""
    with contextlib.suppress(FileNotFoundError):
        atomic.sync_file(run / METRICS)
    atomic.sync_folder(run)  # it has the names of the log and of the checkpoints' folder


def rate(
    config: Config,
    step: int,
    measures: Mapping[str, float],
    damaged: Collection[str],
    heads: Sequence[int] = (),
) -> str | None:
    """Note an evaluation in the marker of its step's complete checkpoint; return what went wrong."""
    final = Places.of(config, step).final
    try:
        chosen = {"heads": list(heads)} if heads else {}
        write_marker(final, read_marker(final) | {"evaluation": dict(measures)} | chosen)
    except OSError as error:
        return f"the evaluation could not be noted in {final} ({error})"
    return tidy(config, step, damaged)


def note_heads(checkpoint: Path, heads: Sequence[int]) -> None:
    """Note in a checkpoint's marker which cluster heads serve, one for each K.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        write_marker(checkpoint, read_marker(checkpoint) | {"heads": list(heads)})
    except OSError as error:
        raise InputError(
            f"the selected heads could not be recorded in {checkpoint} ({error.strerror}): make it writable"
        ) from None


def tidy(config: Config, step: int, damaged: Collection[str]) -> str | None:
    """Delete what is not kept; return errors, which do not stop the run."""
    train = config.train
    try:
        retain(config.run_folder / FOLDER, step, train.keep_last, train.keep_every, damaged)
    except OSError as error:
        return f"an old checkpoint could not be deleted ({error})"
    return None


def clear_staging(config: Config) -> None:
    """Remove leftovers of interrupted saves and conversions, before any rank starts one."""
    folder = config.run_folder / FOLDER
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    shutil.rmtree(folder / UNIVERSAL / STAGING, ignore_errors=True)


def leave_staging(config: Config) -> None:
    """Remove the empty staging folder, when no rank saves any more."""
    with contextlib.suppress(OSError):
        (config.run_folder / FOLDER / STAGING).rmdir()
