"""Checks of the inputs of the losses, on all ranks alike, before a collective call in which some could wait for
ever.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import dist

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_inputs(
    names: str,
    a: Tensor,
    b: Tensor,
    columns: int,
    temperature: float,
    group: ProcessGroup | None,
    check: bool,
) -> None:
    """Check the two views' outputs of this rank, and that those of the other ranks are like them.

    Parameters
    ----------
    names
        Of the two, for the message.
    a, b
        Must both be (n, c) of one floating type.
    columns
        What c must be at least.
    temperature
        Must be above 0.
    group
        The ranks that are compared.
    check
        Whether to compare the ranks.

    Raises
    ------
    ValueError
        On all ranks, whichever has what is refused (unless `check` is false: on that rank).
    """
    if check:
        of_rank = [number for tensor in (a, b) for number in _described(tensor)]
        dist.check_alike(f"the shapes of {names} (rows, columns, type)", of_rank, group)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] < columns:
        what = f"(n, c) with c >= {columns}" if columns > 1 else "(n, d)"
        raise ValueError(f"{names} must both be {what}, not {tuple(a.shape)} and {tuple(b.shape)}")
    if a.dtype != b.dtype or a.dtype not in _TYPES:
        raise ValueError(f"{names} must both be of one floating type, not {a.dtype} and {b.dtype}")
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")


def _described(tensor: Tensor) -> tuple[int, int, int]:
    """Return rows, columns and type in three integers, so many whatever the tensor is."""
    rows, columns = tensor.shape if tensor.ndim == 2 else (-1, tensor.ndim)
    return rows, columns, _TYPES.index(tensor.dtype) if tensor.dtype in _TYPES else -1
