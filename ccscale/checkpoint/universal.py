"""Loading a checkpoint, at the number of ranks and the ZeRO stage that saved it or at others.

ZeRO's stages 1 and 2 cut the optimizer's state into one part a rank; stage 0 keeps it whole. For another number of
ranks or another stage one rank converts the checkpoint to DeepSpeed's universal format, once, beside the
checkpoints; a kill in the middle leaves a staging folder, and the next start makes it anew.
"""

import os
import shutil
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from ccscale import atomic, dist
from ccscale.checkpoint.marker import TAG, seal, verify
from ccscale.checkpoint.plain import convert_plain, load_buffers, load_plain
from ccscale.checkpoint.retention import UNIVERSAL
from ccscale.checkpoint.search import STAGING, Checkpoint
from ccscale.checkpoint.trust import check_trust
from ccscale.config import Config
from ccscale.errors import Fault, InputError


def load(engine: Any, checkpoint: Checkpoint, universal: Path | None) -> dict[str, Any]:
    """Load weights, optimizer and batch-norm statistics into the engine; return the state that was saved.

    Parameters
    ----------
    engine
        The DeepSpeed engine, built for the universal format where `universal` is given.
    checkpoint
        What `find` found, with its pickles.
    universal
        What `make_universal` made of it.
    """
    source = universal or checkpoint.path
    if universal is not None:
        load_buffers(engine, universal / TAG)
        if engine.zero_optimization_stage() == 0:
            return load_plain(engine, universal / TAG)["ccscale"]
    path, client = engine.load_checkpoint(str(source), tag=TAG)
    if path is None:  # DeepSpeed warns and goes on from nothing
        raise RuntimeError(f"DeepSpeed found no checkpoint in {source}")
    return client["ccscale"]


def needs_universal(checkpoint: Checkpoint, config: Config) -> bool:
    """Tell whether it must be converted: its parts were made for another number of ranks, or ZeRO stage."""
    zero = config.train.zero
    return checkpoint.zero != zero or (zero > 0 and checkpoint.world != dist.world())


def make_universal(checkpoint: Checkpoint, names: Sequence[str]) -> Path:
    """Convert a checkpoint to DeepSpeed's universal format, beside the checkpoints; once, on one rank.

    Parameters
    ----------
    checkpoint
        What `find` found.
    names
        The parameters' names in the optimizer's order: `trained.parameter_names`.

    Returns
    -------
    Path
        A folder that `load` takes.

    Raises
    ------
    Fault
        If the disk does not take it.
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
        if checkpoint.zero == 0:
            convert_plain(checkpoint.path / TAG, staging / TAG, names)
        else:
            _convert(checkpoint.path / TAG, staging / TAG)
        seal(staging, {"step": checkpoint.step, "world": checkpoint.world}, {})
        os.rename(staging, final)
        atomic.sync_folder(folder)
        (folder / STAGING).rmdir()
    except (OSError, RuntimeError) as error:  # torch's own way of telling of a full disk
        raise Fault(
            f"{checkpoint.path.name} cannot be converted to another number of ranks or ZeRO stage ({error}); make "
            f"room for it in {folder}, or start {checkpoint.world} ranks with train.zero={checkpoint.zero}"
        ) from None
    return final


def _convert(source: Path, out: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main as convert

    options = Namespace(
        input_folder=str(source),
        output_folder=str(out),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=False,
    )
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it shows its arguments and two bars
        convert(options)
