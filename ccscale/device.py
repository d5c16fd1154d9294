"""The device of a rank, and copies to and from it without unnecessary synchronization."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
        raise InputError("train.device is cuda, but there is no CUDA device here; use train.device=cpu")
    count = torch.cuda.device_count()
    if count == 1:  # Slurm and submitit may show each task its own GPU alone
        local_rank = 0
    if local_rank >= count:
        raise InputError(
            f"local rank {local_rank} has no GPU: this machine has {count}; start fewer processes"
        )
    return torch.device("cuda", local_rank)


def cpu_has_bf16() -> bool:
    """Return whether this machine's CPU multiplies bfloat16 itself: by AVX512-BF16, AMX, or Arm's extension.

    oneDNN takes bfloat16 on others, too, and converts it to and fro.
    """
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    if any(getattr(torch.cpu, name, lambda: False)() for name in names):
        return True
    return platform.machine() in ("aarch64", "arm64") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def float32_products(device: torch.device, tf32: str) -> Iterator[None]:
    """Set for the length of the context which float32 products a GPU rounds to TF32: the config's ``train.tf32``.

    By torch's older names of the two settings, which all of its releases read: where those since 2.9 are set,
    compiling fails in 2.11, and the two do not mix. On a CPU nothing is changed.
    """
    if device.type != "cuda":
        yield
        return
    settings: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [setting.allow_tf32 for setting in settings]
    try:
        for setting, wanted in zip(settings, (tf32 != "none", tf32 == "all"), strict=True):
            setting.allow_tf32 = wanted
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.allow_tf32 = value


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
