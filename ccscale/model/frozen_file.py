"""The file with the frozen part of a run's network, written once; it is merged with the trained part.

::

    RUN/frozen.safetensors            the frozen tensors, by their names in the network's state dict
    RUN/checkpoints/step-00001000/
      config.json                     "frozen": SHA-256 of that file
      model.safetensors               all other tensors

So a checkpoint of heads on a large backbone is as small as the heads. What `ccscale export` writes is whole.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ccscale import atomic
from ccscale.data.shards.hashing import hash_file
from ccscale.errors import Fault, InputError, first_line

FILE = "frozen.safetensors"


def write_frozen(run: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write what is frozen into a run's folder, flushed, and return the file's SHA-256.

    Raises
    ------
    Fault
        If it cannot be written.
    """
    path, part = run / FILE, run / f"{FILE}.part"
    try:
        values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(values, part, metadata={"format": "pt"})
        atomic.sync_file(part)
        found, _ = hash_file(part)
        os.replace(part, path)
        atomic.sync_folder(run)
    except (OSError, SafetensorError) as error:
        raise Fault(f"{path} cannot be written ({first_line(error)}): free some space") from None
    return found


def read_frozen(run: Path, sha256: str) -> dict[str, Tensor]:
    """Read what is frozen from a run's folder.

    Raises
    ------
    InputError
        If it is gone, or not what the run's checkpoints were trained with.
    """
    path = run / FILE
    check_frozen(run, sha256)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}): restore it") from None


def check_frozen(run: Path, sha256: str) -> str:
    """Check the hash of what is frozen in a run's folder, and return it.

    Raises
    ------
    InputError
        If it is gone, or another.
    """
    path = run / FILE
    try:
        found, _ = hash_file(path)
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing; it holds the frozen weights of the run, which are not in its "
            "checkpoints: restore it"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}): restore it") from None
    if found != sha256:
        raise InputError(
            f"{path} was changed or damaged: its SHA-256 is not {sha256}, which the run's checkpoints were trained "
            "with; restore it"
        )
    return found
