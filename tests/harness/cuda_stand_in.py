"""Stands in for CUDA's streams and events where there is no GPU: a copy lasts until it is waited for."""

import time
from contextlib import nullcontext
from typing import Any

import pytest
import torch


class Stream:
    """A stream of a device that is the host."""

    def __init__(self, device: Any = None) -> None:
        self.device = torch.device("cpu")

    def wait_stream(self, other: "Stream") -> None:
        """The device waits, the host does not."""


class Event:
    """An event that has passed only once somebody has waited for it."""

    waits = 0

    def __init__(self, **options: Any) -> None:
        self.recorded, self.time = False, 0.0

    def record(self, stream: Any = None) -> None:
        """Note it, and when."""
        self.recorded, self.time = True, time.perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        """Return the milliseconds from here to another one."""
        return 1000 * (end.time - self.time)

    def synchronize(self) -> None:
        """Count it, if there is something to wait for."""
        Event.waits += self.recorded
        self.recorded = False


def stand_in_for_cuda(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Let a CUDA device be there by name, whose memory is the host's; return it."""
    Event.waits = 0
    for name, value in {
        "Stream": Stream,
        "Event": Event,
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda device=None: Stream(),
        "set_device": lambda device: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    return torch.device("cuda", 0)
