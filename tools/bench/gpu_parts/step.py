"""A training step beside a bare loop, and where its time and memory go; the batch is on the device."""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ccscale.plan.plan import make_plan

sys.path.append(str(Path(__file__).resolve().parents[1]))
from step import BareLoop

from gpu_parts.clock import launch_seconds, seconds_of, wait_for
from gpu_parts.sizes import batch_of, config_of, network_of, stepper_of

PARTS = ("views", "forward", "losses", "backward", "optimizer")


class NetworkAlone:
    """Forward, backward and Adam of the network, on views that are there already, by no loss to speak of."""

    def __init__(self, network: nn.Module, views: torch.Tensor) -> None:
        self.network, self.views = network, views
        self.optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def take(self) -> None:
        """Take a step."""
        with torch.autocast(self.views.device.type, torch.bfloat16):
            outputs = self.network(self.views)
        (outputs.embeddings.square().sum() + outputs.assignments.square().sum()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(device: torch.device, dry: bool) -> None:
    """Print what a step takes."""
    config, turns = config_of(device, dry), 1 if dry else 3
    batch, count = batch_of(config, device), config.train.global_batch
    stepper = stepper_of(config, device)
    begun = time.perf_counter()
    for _ in range(3):
        stepper.take(batch)
    wait_for(device)
    print(
        f"   the first three steps, with what is compiled and tried before: {time.perf_counter() - begun:.1f} s"
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        seconds_of(lambda: stepper.take(batch), device, 2)
        peak = torch.cuda.max_memory_allocated()
        planned = make_plan(config, 1, 1).rank.peak
        print(f"   memory: {peak / 1e9:.2f} GB at most, {peak / planned:.3f} of the plan's")
        print(f"   host waits in a step: {host_waits(lambda: stepper.take(batch))}")
    bare = BareLoop(config, network_of(config), device)
    network = network_of(config).to(device).to(memory_format=torch.channels_last)
    size = config.views.size
    views = torch.rand(2 * count, 3, size, size, device=device).to(memory_format=torch.channels_last)
    alone = NetworkAlone(network, views)
    takers = {
        "ccscale": lambda: stepper.take(batch),
        "bare": lambda: bare.take(batch),
        "network alone": alone.take,
    }
    seconds: dict[str, list[float]] = {name: [] for name in takers}
    for call in takers.values():
        call()
    for turn in range(turns):
        for name in takers if turn % 2 else reversed(takers):
            seconds[name].append(seconds_of(takers[name], device, 3))
    for name, found in seconds.items():
        middle = statistics.median(found)
        of_ours = statistics.median(a / b for a, b in zip(found, seconds["ccscale"], strict=True))
        rate = f"{1e3 * middle:.1f} ms a step, {count / middle:.0f} images/s"
        print(f"   {name}: {rate}; takes {of_ours:.3f} of ccscale's time")
    print(f"   the host launches a step in {1e3 * launch_seconds(takers['ccscale'], device):.1f} ms")
    shares(takers["ccscale"], device)


def host_waits(call: Callable[[], object]) -> list[str]:
    """Return where the host waited for the device, as far as CUDA's debugging mode sees it."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    synchronizing = [w for w in caught if "called a synchronizing" in str(w.message)]
    return [f"{Path(w.filename).name}:{w.lineno}" for w in synchronizing]


def shares(call: Callable[[], object], device: torch.device) -> None:
    """Print the device's time in each part of a step, and the kernels that take longest."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        call()
        wait_for(device)
    events = found.key_averages()
    kernels = [e for e in events if e.device_type != torch.autograd.DeviceType.CPU and e.key not in PARTS]
    total = sum(e.self_device_time_total for e in kernels) or 1.0
    for part in PARTS:
        taken = max((e.device_time_total for e in events if e.key == part), default=0.0)
        print(f"   {part}: {taken / 1e3:.2f} ms of the device, {taken / total:.1%}")
    for kernel in sorted(kernels, key=lambda e: -e.self_device_time_total)[:14]:
        print(f"      {kernel.self_device_time_total / 1e3:7.2f} ms {kernel.count:5} x {kernel.key[:100]}")
