"""Which checkpoint of a run is looked at: the newest one, unless another one is asked for by name."""

import sys
from pathlib import Path

from ccscale.checkpoint.retention import MEASURES, best, list_kept
from ccscale.checkpoint.search import FOLDER, Search, find, open_checkpoint, step_folder
from ccscale.errors import InputError

LAST = "last"
BEST = {"best": "information", **{f"best-{measure}": measure for measure in MEASURES}}
CHOICES = f"{LAST}, {', '.join(BEST)}, or a step"


def choose(run: Path, which: str = LAST) -> Search:
    """Find a checkpoint of a run.

    Parameters
    ----------
    run
        The run's folder.
    which
        ``last``; ``best`` or ``best-information``, by what the assignments tell about the images, which needs no
        labels; ``best-nmi``, by labels; or a step.

    Raises
    ------
    InputError
        If there is none such, or it is damaged.
    """
    if which == LAST:
        return find(run)
    folder = run / FOLDER
    kept = list_kept(folder, sys.maxsize)
    if which in BEST:
        chosen = best(kept, BEST[which])
        if chosen is None:
            raise InputError(
                f"no checkpoint of {run} was rated by {BEST[which]}: evaluations while training do that "
                "(evaluate.every)"
            )
        step = chosen.step
    elif which.isdecimal():
        step = int(which)
    else:
        raise InputError(f"there is no checkpoint '{which}'; name {CHOICES}")
    path = step_folder(folder, step)
    if not path.is_dir():
        steps = ", ".join(str(one.step) for one in kept) or "none"
        raise InputError(f"{run} has no checkpoint of step {step}; there are: {steps}")
    return Search(open_checkpoint(path), ())
