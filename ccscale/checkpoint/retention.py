"""Decides which checkpoints are kept.

These are the newest `train.keep_last`; those that the newest one pins, since the run may return to them;
permanently, the first one of every `train.keep_every` steps; and the best one by each measure of the evaluations
that were made at steps with a checkpoint:

    information     H(mean p) - mean H(p), in nats: needs no labels
    nmi             against the labels, if there are any

The marker of a checkpoint holds its measures, so the best one follows from the markers alone. Labels choose a
checkpoint only if that is requested by name.
"""

import contextlib
import math
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccscale.checkpoint.layout import STAGING, UNIVERSAL, step_folder, steps
from ccscale.checkpoint.marker import read_marker
from ccscale.errors import InputError

MEASURES = ("information", "nmi")


@dataclass(frozen=True)
class KeptCheckpoint:
    """A checkpoint that has a marker."""

    step: int
    measures: Mapping[str, float] = field(default_factory=dict)
    pins: tuple[int, ...] = ()
    """Steps that are kept as long as this is the newest."""


def measures_of(summary: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the measures in an evaluation's summary that checkpoints are compared by."""
    found = {name: (summary or {}).get(name) for name in MEASURES}
    return {name: float(x) for name, x in found.items() if isinstance(x, int | float) and math.isfinite(x)}


def list_kept(folder: Path, until: int, damaged: Collection[str] = ()) -> list[KeptCheckpoint]:
    """Return the checkpoints up to step `until` that have a marker and are not known as damaged, oldest first."""
    kept = []
    for path in steps(folder):
        if path.name in damaged:
            continue
        try:
            marker = read_marker(path)
            step = int(marker["step"])
            if step <= until and path == step_folder(folder, step):
                pins = tuple(map(int, marker.get("pins", ())))
                kept.append(KeptCheckpoint(step, measures_of(marker.get("evaluation")), pins))
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return kept[::-1]


def best(kept: Collection[KeptCheckpoint], measure: str) -> KeptCheckpoint | None:
    """Return the best checkpoint by a measure, the earliest of equal ones; None if none was evaluated."""
    rated = [one for one in kept if measure in one.measures]
    return max(rated, key=lambda one: (one.measures[measure], -one.step)) if rated else None


def is_best(kept: Collection[KeptCheckpoint], measures: Mapping[str, float]) -> bool:
    """Return whether any of the measures is the best of all checkpoints."""
    rivals = {name: best(kept, name) for name in measures}
    return any(rival is None or measures[name] > rival.measures[name] for name, rival in rivals.items())


def steps_to_keep(kept: Collection[KeptCheckpoint], last: int, every: int | None) -> set[int]:
    """Return the steps whose checkpoints are kept."""
    numbers = sorted(one.step for one in kept)
    keep = set(numbers[-last:])
    keep |= set(max(kept, key=lambda one: one.step).pins) if kept else set()
    if every is not None:
        before = [0, *numbers]
        keep |= {
            step for step, previous in zip(numbers, before, strict=False) if step // every > previous // every
        }
    champions = (best(kept, measure) for measure in MEASURES)
    return keep | {one.step for one in champions if one is not None}


def retain(folder: Path, until: int, last: int, every: int | None, damaged: Collection[str] = ()) -> None:
    """Delete the checkpoints that are not kept, damaged ones too; a complete one of step `until` must be there.

    Raises
    ------
    OSError
        If one cannot be deleted.
    """
    keep = steps_to_keep(list_kept(folder, until, damaged), last, every) | {until}
    names = {step_folder(folder, step).name for step in keep}
    newest = step_folder(folder, until).name
    for path in steps(folder):
        # One of a later step is damaged: it stays until the run has come past it.
        if path.name not in names and path.name <= newest:
            discard(path)
    for path in (folder / UNIVERSAL).glob("step-*"):
        if path.name not in names:
            discard(path)


def discard(path: Path) -> None:
    """Delete a folder, so that after a kill it does not look like a damaged checkpoint."""
    place = path.parent / STAGING
    place.mkdir(exist_ok=True)
    away = place / f"deleted-{path.name}"
    shutil.rmtree(away, ignore_errors=True)
    os.rename(path, away)
    shutil.rmtree(away)
    if path.parent.name == UNIVERSAL:
        with contextlib.suppress(OSError):
            place.rmdir()
