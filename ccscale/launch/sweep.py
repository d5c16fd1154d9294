"""Settings to try, as runs: ``--sweep seed=0,1 --sweep train.lr=0.001,0.0003`` is four runs, each in its folder.

run=runs/photos  ->  runs/photos/seed=0,train.lr=0.001   runs/photos/seed=0,train.lr=0.0003   ...
"""

import itertools
import re
from collections.abc import Sequence

from ccscale.config import Config
from ccscale.config.file import load_config
from ccscale.errors import InputError


def expand(path: str, overrides: Sequence[str], sweeps: Sequence[str], ranks: int) -> list[Config]:
    """Return the config of every run, in the order of the sweeps, the last one running fastest.

    Parameters
    ----------
    path
        A YAML file.
    overrides
        ``key=value``, the same for all.
    sweeps
        ``key=a,b,c``. Commas in brackets part no values: ``data.splits=[a,b],[c]`` are two.
    ranks
        Processes that each run will have.

    Raises
    ------
    InputError
        If one of them is not a config that could be trained so.
    """
    axes = [_parse(sweep) for sweep in sweeps]
    keys = [key for key, _ in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"--sweep has {key} twice; give all its values at once, as in {key}=a,b")
        if key == "run":
            raise InputError("--sweep run=... is not needed: each run's folder is named by its settings")
    common = load_config(path, overrides).run_folder
    configs = []
    for point in itertools.product(*(values for _, values in axes)):
        settings = [f"{key}={value}" for key, value in zip(keys, point, strict=True)]
        name = re.sub(r"[^\w.,=+\[\]-]", "_", ",".join(settings))  # "/" and the like name no folder
        folder = [f"run={common / name}"] if settings else []
        config = load_config(path, [*overrides, *settings, *folder])
        config.check_ranks(ranks)
        configs.append(config)
    runs = [config.run for config in configs]
    for run in runs:
        if runs.count(run) > 1:
            raise InputError(f"two runs of the sweep have the same folder {run}; name each value once")
    return configs


def _parse(sweep: str) -> tuple[str, list[str]]:
    """Read ``key=a,b,c``."""
    key, _, text = sweep.partition("=")
    values = [""]
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    if not key or not all(values):
        raise InputError(f"--sweep {sweep!r} is not a sweep; write key=a,b,c, for example seed=0,1,2")
    return key, values
