"""What a call costs beside its time, memory and bytes sent; and the machine that it was measured on."""

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # torch's profiler chatters otherwise
import torch
import torch.distributed as torch_dist
from torch._C._profiler import _EventType as EventType


def peak_bytes(call: Callable[[], Any], device: torch.device | None = None) -> int:
    """Return the most bytes that tensors held at any moment of a call, beyond those that there were before.

    On a CPU every allocation and release of the call is added up, so the figure is exact and repeatable; what
    libraries take for themselves behind torch's allocator is not in it, nor what a convolution takes and gives back
    before it ends: oneDNN's workspace depends on the processor (a small ResNet's is 28 % without AVX-512).
    """
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _quiet(), torch.profiler.profile(profile_memory=True) as profile:
        call()
    held = most = 0
    for _, size in sorted(_allocations(profile.profiler.kineto_results.experimental_event_tree())):
        held += size
        most = max(most, held)
    return most


def _allocations(events: Iterable[Any], operation: str = "") -> Iterator[tuple[int, int]]:
    """Yield time and bytes of all that an operation's events took, or gave back (below 0), but of workspaces."""
    workspaces: dict[int, tuple[int, int]] = {}  # by address
    for event in events:
        kind, fields = event.typed
        if kind == EventType.Allocation:
            found = event.start_time_ns, fields.alloc_size
            if "convolution" not in operation:
                yield found
            elif fields.alloc_size > 0:
                workspaces[fields.ptr] = found
            elif workspaces.pop(fields.ptr, None) is None:
                yield found
        yield from _allocations(event.children, event.name)
    yield from workspaces.values()  # what is there after it, is none


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's profiler says of itself from the screen."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def counted_traffic() -> Iterator[Counter[str]]:
    """Count the bytes that this rank's collectives carry, by the collective:
    all_gather, all_reduce, reduce_scatter, send.

    The payload counts: of a gather what comes out, of a reduction what goes in, of a message to the next rank the
    message. How often that crosses a wire is the transport's affair.
    """
    count: Counter[str] = Counter()

    def counting(name: str, collective: str, payload: int) -> Any:
        original = getattr(torch_dist, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            tensor = [*arguments, *options.values()][payload]  # DeepSpeed names its arguments
            count[collective] += tensor.nbytes
            return original(*arguments, **options)

        return mock.patch.object(torch_dist, name, wrapped)

    def counting_messages(original: Any) -> Any:
        def wrapped(operations: Any) -> Any:
            count["send"] += sum(o.tensor.nbytes for o in operations if o.op is torch_dist.isend)
            return original(operations)

        return mock.patch.object(torch_dist, "batch_isend_irecv", wrapped)

    # torch 2.14 gave two of them new names.
    gathers, scatters = ("into_tensor", "single"), ("tensor", "single")
    collectives = [("all_reduce", "all_reduce", 0)]
    collectives += [(f"all_gather_{what}", "all_gather", 0) for what in gathers]
    collectives += [(f"reduce_scatter_{what}", "reduce_scatter", 1) for what in scatters]
    with ExitStack() as patches:
        for name, collective, payload in collectives:
            if hasattr(torch_dist, name):
                patches.enter_context(counting(name, collective, payload))
        patches.enter_context(counting_messages(torch_dist.batch_isend_irecv))
        yield count


def commit() -> str:
    """Return the commit of this checkout, `-dirty` where files differ from it."""
    here = Path(__file__).resolve().parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def processor() -> str:
    """Return the name of this machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine() -> str:
    """Return what a figure was measured on."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}, cores: {len(os.sched_getaffinity(0))}{gpu}"
