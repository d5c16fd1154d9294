"""A step whose backbone is compiled, beside one whose backbone is not."""

import time

import torch

from gpu_parts.clock import seconds_of, wait_for
from gpu_parts.sizes import batch_of, config_of, stepper_of


def measure(device: torch.device, dry: bool) -> None:
    """Print both; a compiler is not tried in a dry run."""
    for compiled in (False,) if dry else (False, True):
        first, taken = seconds_of_steps(device, dry, compiled)
        word = "compiled" if compiled else "as it is"
        print(f"   {word}: the first step took {first:.1f} s, then {1e3 * taken:.1f} ms each")


def seconds_of_steps(device: torch.device, dry: bool, compiled: bool) -> tuple[float, float]:
    """Return the seconds of the first step, and of one that comes later."""
    config = config_of(device, dry, compile=compiled)
    stepper, batch = stepper_of(config, device), batch_of(config, device)
    begun = time.perf_counter()
    stepper.take(batch)
    wait_for(device)
    first = time.perf_counter() - begun
    stepper.take(batch)
    return first, seconds_of(lambda: stepper.take(batch), device)
