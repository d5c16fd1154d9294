"""Starts a run from the network of another one: ``train.start: RUN``, ``RUN@STEP`` or ``RUN@best``.

It may also be an exported network (``ccscale export``).
"""

from pathlib import Path

from ccscale import dist
from ccscale.checkpoint import Checkpoint, choose
from ccscale.checkpoint.run import read_run
from ccscale.checkpoint.search import BEST, LAST
from ccscale.config import Config
from ccscale.errors import InputError, did_you_mean
from ccscale.model.export import differing, is_export, read_export
from ccscale.model.network import ContrastiveClustering
from ccscale.progress import say

ALIKE = (
    *("backbone", "stem", "normalize", "clusters", "heads", "embedding", "head_input"),
    *("head_width", "head_depth", "head_norm", "head_activation", "prototypes", "head_temperature"),
)
"""What two runs must have in common for one to begin with the other's network."""


def parse_start(start: str) -> tuple[Path, str]:
    """Return the run's folder, and which of its checkpoints is meant.

    Raises
    ------
    InputError
        If what follows the last @ is no checkpoint.
    """
    run, at, which = start.rpartition("@")
    if not at or Path(start).is_dir():  # a folder's name may have one
        return Path(start), LAST
    if not (which.isdecimal() or which in (LAST, *BEST)):
        raise InputError(
            f"train.start is {start}: '{which}' is not a checkpoint of {run}; write RUN@STEP, RUN@best or "
            "the like" + did_you_mean(which, [LAST, *BEST])
        )
    return Path(run), which


def begin_with(start: str, config: Config, width: int | None = None) -> ContrastiveClustering:
    """Build a run's network with the weights of another run; all ranks call it together.

    Parameters
    ----------
    start
        The config's `train.start`.
    config
        The config of the run that begins.
    width
        D of the features that it is trained on, where these are its data: then its heads alone are taken.

    Raises
    ------
    InputError
        If there is no such run or checkpoint, or its network is another one.
    """
    export = Path(start)
    if dist.on_rank_zero(lambda: is_export(export)):
        network = dist.together(lambda: _build(export, config, width))
        dist.say(f"starting from the network of {export}")
        return network
    found = dist.on_rank_zero(lambda: _find(start))
    network = dist.together(lambda: _build(found.path, config, width))
    dist.say(f"starting from the network of {parse_start(start)[0]}, step {found.step}")
    return network


def _find(start: str) -> Checkpoint:
    folder, which = parse_start(start)
    read_run(folder)  # or it is none
    found = choose(folder, which)
    for reason in found.passed_over:
        say(f"skipped a checkpoint: {reason}")
    if found.newest is None:
        raise InputError(f"train.start is {start}, and that run has no checkpoint yet")
    return found.newest


def _build(found: Path, config: Config, width: int | None) -> ContrastiveClustering:
    settings, size, weights = read_export(found, joined=width is None)
    if width is not None:
        weights = {name: value for name, value in weights.items() if not name.startswith("backbone.")}
    different = [
        f"model.{key} is {getattr(settings, key)!r} there and {getattr(config.model, key)!r} here"
        for key in ALIKE
        if getattr(settings, key) != getattr(config.model, key)
    ]
    network = ContrastiveClustering(config.model.bare, config.views.size, width)
    if not different and (others := differing(network, weights)):
        different = [f"'{others[0]}' has another shape, and views.size is {size} there"]
    if different:
        raise InputError(
            f"the network of {found} (train.start) has other settings: {'; '.join(different)}; use them, "
            "or leave train.start out"
        )
    network.load_state_dict(weights)
    return network
