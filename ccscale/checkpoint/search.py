"""Finds the checkpoint from which a run resumes, and the one to evaluate.

That is the newest complete one unless another is requested by name; for evaluation, the one to use instead of it,
if its marker names one.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ccscale.checkpoint.layout import FOLDER, STAGING, step_folder, steps
from ccscale.checkpoint.marker import verify
from ccscale.checkpoint.retention import MEASURES, best, list_kept
from ccscale.checkpoint.trust import check_trust
from ccscale.errors import InputError

LAST = "last"
BEST = {"best": "information", **{f"best-{measure}": measure for measure in MEASURES}}
CHOICES = f"{LAST}, {', '.join(BEST)}, or a step"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint, its hashes verified."""

    path: Path
    step: int
    """Steps that were done when it was saved."""
    world: int
    """Number of ranks that saved it."""
    zero: int = 0
    """ZeRO stage that it was saved under."""
    heads: tuple[int, ...] = ()
    """The cluster heads that its evaluation has chosen, one for each K; none, where it was not evaluated."""
    serves: int | None = None
    """The step of the one that serves in its place, where a stage of the run has made it worse."""


@dataclass(frozen=True)
class Search:
    """Checkpoints found in a run's folder."""

    newest: Checkpoint | None
    """The newest complete one."""
    passed_over: tuple[str, ...]
    """A sentence for each newer one that is not complete."""
    damaged: tuple[str, ...] = ()
    """The names of those."""
    cut_off: bool = False
    """Whether the saving of one was cut off."""


def find(run: Path, pickles: bool = False) -> Search:
    """Find a run's newest complete checkpoint, verifying hashes from the newest one backwards.

    Parameters
    ----------
    run
        The run's folder.
    pickles
        Whether its pickles will be loaded: then one that others can write is passed over too.

    Raises
    ------
    InputError
        If there are checkpoints and none of them is complete: a run never begins anew in silence.
    """
    folder = run / FOLDER
    if not folder.resolve().is_relative_to(run.resolve()):
        raise InputError(
            f"{folder} is a link out of the run's folder, to {folder.resolve()}; checkpoints must be "
            "inside it: move the whole folder (run=DIR) instead"
        )
    passed_over: dict[str, str] = {}
    cut_off = any((folder / STAGING).glob("*"))
    for path in steps(folder):
        try:
            if pickles:
                check_trust(path, run)
            return Search(open_checkpoint(path), tuple(passed_over.values()), tuple(passed_over), cut_off)
        except InputError as error:
            passed_over[path.name] = str(error)
    if passed_over:
        raise InputError(
            f"{folder} has no complete checkpoint: {'; '.join(passed_over.values())}; restore one, or "
            "delete the folder to start over"
        )
    return Search(None, (), (), cut_off)


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify a checkpoint.

    Raises
    ------
    InputError
        That says what is wrong with it.
    """
    marker = verify(path)
    try:
        heads = tuple(map(int, marker.get("heads", ())))
        serves = None if marker.get("serves") is None else int(marker["serves"])
        return Checkpoint(
            path, int(marker["step"]), int(marker["world"]), int(marker.get("zero", 0)), heads, serves
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the marker of {path.name} cannot be read ({error})") from None


def serving(run: Path, newest: Checkpoint, pickles: bool = False) -> Checkpoint:
    """Return the checkpoint that serves, if this is the run's newest one.

    Parameters
    ----------
    run, pickles
        As for `find`.
    newest
        Complete.

    Raises
    ------
    InputError
        If it is damaged, or its pickles are not to be loaded.
    """
    if newest.serves is None:
        return newest
    path = step_folder(run / FOLDER, newest.serves)
    if pickles:
        check_trust(path, run)
    return open_checkpoint(path)


def choose(run: Path, which: str = LAST) -> Search:
    """Find a checkpoint of a run.

    Parameters
    ----------
    run
        The run's folder.
    which
        ``last``, or the one that serves in its place; ``best`` or ``best-information``, by what the assignments
        tell about the images, which needs no labels; ``best-nmi``, by labels; or a step.

    Raises
    ------
    InputError
        If there is none such, or it is damaged.
    """
    folder = run / FOLDER
    if which == LAST:
        found = find(run)
        return found if found.newest is None else replace(found, newest=serving(run, found.newest))
    kept = list_kept(folder, sys.maxsize)
    if which in BEST:
        chosen = best(kept, BEST[which])
        if chosen is None:
            raise InputError(
                f"no checkpoint of {run} was rated by {BEST[which]}: set evaluate.every to evaluate "
                "during training"
            )
        step = chosen.step
    elif which.isdecimal():
        step = int(which)
    else:
        raise InputError(f"there is no checkpoint '{which}'; choose {CHOICES}")
    path = step_folder(folder, step)
    if not path.is_dir():
        steps = ", ".join(str(one.step) for one in kept) or "none"
        raise InputError(f"{run} has no checkpoint of step {step}; there are: {steps}")
    return Search(open_checkpoint(path), ())
