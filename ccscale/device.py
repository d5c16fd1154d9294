"""The device that a rank computes on, and what goes there and comes from there without more waits than needed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ccscale.errors import InputError


def pick_device(wanted: str, local_rank: int = 0) -> torch.device:
    """Return the device of this rank for the config's ``train.device`` (auto, cpu or cuda).

    Raises
    ------
    InputError
        If CUDA is wanted and there is none, or there are fewer GPUs than ranks on this machine.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("train.device is cuda and there is no CUDA device here; use train.device=cpu")
    count = torch.cuda.device_count()
    if count == 1:  # Slurm and submitit may show each task its own GPU alone
        local_rank = 0
    if local_rank >= count:
        raise InputError(
            f"local rank {local_rank} has no GPU: this machine shows {count}; start fewer processes"
        )
    return torch.device("cuda", local_rank)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on its way to a device; the host does not wait."""
    if device.type != "cuda":
        return tensor.to(device)
    # From pinned memory, or the copy would be made at once.
    return tensor.pin_memory().to(device, non_blocking=True)


def read(scalars: Sequence[Tensor]) -> list[float]:
    """Return the values of scalars on a device, which is waited for once, whatever their number."""
    values: list[float] = torch.stack([scalar.detach() for scalar in scalars]).tolist() if scalars else []
    return values
