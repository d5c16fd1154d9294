"""Times on a device."""

import statistics
import time
from collections.abc import Callable

import torch


def seconds_of(call: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Return the seconds of a call, of some that follow each other without a wait between them."""
    wait_for(device)
    begun = time.perf_counter()
    for _ in range(times):
        call()
    wait_for(device)
    return (time.perf_counter() - begun) / times


def launch_seconds(call: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """Return how long the host is at a call that finds the device idle."""
    found = []
    for _ in range(times):
        wait_for(device)
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    wait_for(device)
    return statistics.median(found)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
