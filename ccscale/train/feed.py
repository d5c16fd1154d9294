"""A rank's batches, fetched one ahead of their use, and copied to the device meanwhile.

While a step is computed, its rank fetches the next batch and has it copied on a stream of its own, and at the
step's end all ranks agree whether each has one. So a rank that cannot read its data never leaves the others waiting
for it in the middle of a step: all save, and stop. Nor does a store that does not answer keep a rank from stopping
when it is asked to.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import torch

from ccscale.data.remote.retry import Closing
from ccscale.errors import Fault, InputError
from ccscale.features.batches import Batch
from ccscale.preempt import StopRequest
from ccscale.threads import background

POLL_SECONDS = 0.2

SomeBatch = TypeVar("SomeBatch", bound=Batch)


class Feed:
    """The next batch, how long it was waited for, and why there is none.

    Parameters
    ----------
    start
        Begins to read the batches, given what will end all reads.
    device
        Where images or features go.

    Attributes
    ----------
    batch
        The batch that was fetched last, its tensor on the device, or on their way there: the device's current
        stream waits for them, the host does not.
    wait
        Seconds that fetching it took.
    failure
        What went wrong when there should have been another.
    """

    batch: Batch

    def __init__(self, start: Callable[[Closing], Iterator[Batch]], device: torch.device) -> None:
        self._begin(start)
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.wait = 0.0
        self.failure: Fault | InputError | None = None

    def _begin(self, start: Callable[[Closing], Iterator[Batch]]) -> None:
        self._closing = Closing()
        self._batches = start(self._closing)

    def restart(self, start: Callable[[Closing], Iterator[Batch]]) -> None:
        """Give up what was read ahead, and fetch the first of other batches, or note why there is none."""
        self.close()
        self._begin(start)
        self.fetch_first()

    def fetch_first(self) -> None:
        """Fetch the first batch, or note why there is none. Workers are started from the main thread."""
        self._fetch(self._next)

    def fetch(self, request: StopRequest) -> None:
        """Fetch the next batch, or note why there is none; on a request to stop, give up."""

        def next_unless_stopped() -> Batch:
            coming: Future[Batch] = background(self._next)
            while not wait([coming], POLL_SECONDS).done:
                if request:
                    return self.batch  # it will not be used
            return coming.result()

        self._fetch(next_unless_stopped)

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
        batch = next(self._batches)
        if self._stream is None:
            return batch
        with torch.cuda.stream(self._stream):
            return on_device(batch, self._device)

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """End all reads that are under way, and the loader's workers."""
        self._closing.set()
        self._batches = iter(())


def on_device(batch: SomeBatch, device: torch.device) -> SomeBatch:
    """Return a batch with its tensor on its way to a device; the host does not wait."""
    if device.type != "cuda":
        return batch
    # From pinned memory, or the copy would be made at once.
    moved: Any = batch.holding(batch.held.pin_memory().to(device, non_blocking=True))
    return moved
