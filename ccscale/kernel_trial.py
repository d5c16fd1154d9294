"""Tests fused kernels on a device before their first use: wrong or unavailable ones are not used."""

import importlib.util
import warnings
from collections.abc import Callable

import torch


def passes(
    device: torch.device, largest_error: Callable[[], float], tolerance: float, wrong: str, told: str
) -> bool:
    """Return whether kernels can be had on a device and are right; why not is told by a warning.

    Where there is no Triton, or no NVIDIA GPU that it compiles for, nothing is tried and nothing told.

    Parameters
    ----------
    device
        Where they are to run.
    largest_error
        Runs them on a small problem, and returns how far they are off.
    tolerance
        How far they may be.
    wrong
        The reason where they are off further, with a place for the error.
    told
        The sentence, with places for device and reason.
    """
    if device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        return False
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        error = largest_error()
    except Exception as failure:  # whatever a compiler for this device may meet
        reason = f"{type(failure).__name__}: {failure}".splitlines()[0]
    else:
        if error <= tolerance:
            return True
        reason = wrong.format(error)
    warnings.warn(told.format(device, reason), stacklevel=3)
    return False
