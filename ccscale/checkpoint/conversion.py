"""Loads a checkpoint, on the number of ranks and the ZeRO stage that saved it, or on others.

For others, one rank converts the checkpoint once to DeepSpeed's universal format, next to the checkpoints; a kill
during the conversion leaves a staging folder, and the next start repeats it.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccscale import atomic, dist
from ccscale.checkpoint.layout import STAGING, TAG, UNIVERSAL
from ccscale.checkpoint.marker import seal, verify
from ccscale.checkpoint.search import Checkpoint
from ccscale.checkpoint.trust import check_trust
from ccscale.config import Config
from ccscale.engine.adapter import Engine
from ccscale.engine.universal import convert, load_universal, read_kept
from ccscale.errors import Fault, InputError


def load(engine: Engine, checkpoint: Checkpoint, universal: Path | None) -> dict[str, Any]:
    """Load weights, optimizer and batch-norm statistics into the engine; return the state that was saved.

    Parameters
    ----------
    engine
        Built for the universal format where `universal` is given.
    checkpoint
        What `find` found, with its pickles.
    universal
        What `make_universal` made of it.
    """
    state = engine.load(checkpoint.path, TAG) if universal is None else load_universal(engine, universal, TAG)
    return dict(state)


def read_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the state that was saved besides weights and optimizer, and load none of these."""
    return dict(read_kept(checkpoint.path / TAG))


def needs_universal(checkpoint: Checkpoint, config: Config) -> bool:
    """Return whether it must be converted: its parts were made for another number of ranks, or ZeRO stage."""
    zero = config.train.zero
    return checkpoint.zero != zero or (zero > 0 and checkpoint.world != dist.world())


def make_universal(checkpoint: Checkpoint, names: Sequence[str]) -> Path:
    """Convert a checkpoint to DeepSpeed's universal format, next to the checkpoints; once, on one rank.

    Parameters
    ----------
    checkpoint
        What `find` found.
    names
        The parameters' names in the optimizer's order: `parameter_groups.parameter_names`.

    Returns
    -------
    Path
        A folder that `load` takes.

    Raises
    ------
    Fault
        If it cannot be written.
    """
    folder = checkpoint.path.parent / UNIVERSAL
    final, staging = folder / checkpoint.path.name, folder / STAGING / checkpoint.path.name
    try:
        check_trust(final, checkpoint.path.parents[1])
        verify(final)
        return final
    except InputError:
        pass  # there is none, or it cannot be used: it is made of the checkpoint again
    try:
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        staging.mkdir(parents=True)
        convert(checkpoint.path / TAG, staging / TAG, checkpoint.zero, names)
        seal(staging, {"step": checkpoint.step, "world": checkpoint.world}, {})
        os.rename(staging, final)
        atomic.sync_folder(folder)
        (folder / STAGING).rmdir()
    except (OSError, RuntimeError) as error:  # torch's own way of telling of a full disk
        raise Fault(
            f"{checkpoint.path.name} cannot be converted to another number of ranks or ZeRO stage "
            f"({error}); free some space in {folder}, or start {checkpoint.world} ranks with "
            f"train.zero={checkpoint.zero}"
        ) from None
    return final
