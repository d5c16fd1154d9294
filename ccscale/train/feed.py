"""A rank's batches, fetched and copied to the device one step ahead.

::

    host          step t launched ........ | joined: agreed, noted | step t+1 launched ...
    a thread      batch t+1: fetched, put into pinned memory, sent |
    GPU           .. step t-1 | step t ............................ | step t+1

While a step is computed, the next batch is fetched and copied on a separate CUDA stream. On a GPU this begins
before the step is launched; on a CPU, whose cores compute the step, after it. At the end of the step all ranks
agree whether each has its batch. So a rank that cannot read its data never leaves the others waiting in the
middle of a step: all save, and stop. Likewise, storage that does not respond never prevents a rank from stopping
on request.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, Protocol, TypeVar

import torch

from ccscale.data.remote.retry import Closing
from ccscale.data.ring import Allot, Ring
from ccscale.device import send
from ccscale.errors import Fault, InputError
from ccscale.features.batches import Batch
from ccscale.preempt import StopRequest
from ccscale.threads import background
from ccscale.train.data_waits import DeviceWait

POLL_SECONDS = 0.2

SomeBatch = TypeVar("SomeBatch", bound=Batch)


class Start(Protocol):
    """Starts reading batches, given a way to cancel all reads and, for a GPU, an allocator of their memory."""

    def __call__(self, closing: Closing, allot: Allot | None = None, /) -> Iterator[Batch]: ...


class Feed:
    """The next batch, how long the rank waited for it, and the error if there is none.

    Attributes
    ----------
    batch
        The batch that was fetched last, its tensor on the device, or on their way there: the device's current
        stream waits for them, the host does not.
    wait
        Seconds spent waiting for it: by the host and, on a GPU, by the device; except for the first one.
    failure
        The error, if there should have been another batch.
    """

    batch: Batch

    def __init__(self, start: Start, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ring = None if self._stream is None else Ring(self._stream)
        self._coming: Future[Batch] | None = None
        self._open(start)
        self.wait: float | DeviceWait = 0.0
        self.failure: Fault | InputError | None = None

    def _open(self, start: Start) -> None:
        self._closing = Closing()
        self._batches = start(self._closing) if self._ring is None else start(self._closing, self._ring.allot)

    def restart(self, start: Start) -> None:
        """Discard the batches that were read ahead, and fetch the first of other ones, or record the error.

        No batch may be in flight: see `begin`.
        """
        self.close()
        self._open(start)
        self.fetch_first()

    def fetch_first(self) -> None:
        """Fetch the first batch, or record the error. Workers are started from the main thread."""
        self._fetch(self._next)

    def begin(self) -> None:
        """Start fetching the next batch, on a GPU; `fetch` must follow, and `restart` not before it."""
        if self._ring is not None:
            self._coming = background(self._next)

    def fetch(self, request: StopRequest) -> None:
        """Fetch the next batch, or record the error; on a request to stop, give up."""

        def next_unless_stopped() -> Batch:
            coming, self._coming = self._coming or background(self._next), None
            while not wait([coming], POLL_SECONDS).done:
                if request:
                    return self.batch  # it will not be used
            return coming.result()

        device_wait = None if self._ring is None else DeviceWait(torch.cuda.current_stream(self._device))
        self._fetch(next_unless_stopped)
        if device_wait is not None:
            device_wait.end()
            self.wait = device_wait

    def _fetch(self, call: Callable[[], Batch]) -> None:
        begun = time.perf_counter()
        try:
            self.batch = call()
        except (Fault, InputError) as error:
            self.failure = error
        if self._stream is not None and self.failure is None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            self.batch.held.record_stream(current)  # its memory is the copying stream's
        self.wait = time.perf_counter() - begun

    def _next(self) -> Batch:
        if self._ring is None:
            return next(self._batches)
        batch = next(self._batches)
        return batch.holding(self._ring.send(batch.held))

    def check(self) -> None:
        """Raise the recorded error, if any."""
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Cancel all reads in flight, and end the loader's workers."""
        self._closing.set()
        self._batches = iter(())


def on_device(batch: SomeBatch, device: torch.device) -> SomeBatch:
    """Return a batch with its tensor on its way to a device; the host does not wait."""
    moved: Any = batch.holding(send(batch.held, device))
    return moved
