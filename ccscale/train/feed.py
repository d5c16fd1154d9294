"""A rank's batches, fetched one ahead of their use.

While a step is computed, its rank fetches the next batch, and at the step's end all ranks agree whether each has
one. So a rank that cannot read its data never leaves the others waiting for it in the middle of a step: all save,
and stop. Nor does a store that does not answer keep a rank from stopping when it is asked to.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial

from ccscale.data.retry import Closing
from ccscale.data.stream import PairBatch
from ccscale.data.threads import background
from ccscale.errors import Fault, InputError
from ccscale.train.preempt import StopRequest

POLL_SECONDS = 0.2


class Feed:
    """The next batch, how long it was waited for, and why there is none.

    Parameters
    ----------
    start
        Begins to read the batches, given what will end all reads.

    Attributes
    ----------
    batch
        The batch that was fetched last.
    wait
        Seconds that fetching it took.
    failure
        What went wrong when there should have been another.
    """

    batch: PairBatch

    def __init__(self, start: Callable[[Closing], Iterator[PairBatch]]) -> None:
        self._closing = Closing()
        self._batches = start(self._closing)
        self.wait = 0.0
        self.failure: Fault | InputError | None = None

    def fetch_first(self) -> None:
        """Fetch the first batch, or note why there is none. Workers are started from the main thread."""
        self._fetch(partial(next, self._batches))

    def fetch(self, request: StopRequest) -> None:
        """Fetch the next batch, or note why there is none; on a request to stop, give up."""

        def next_unless_stopped() -> PairBatch:
            coming: Future[PairBatch] = background(partial(next, self._batches))
            while not wait([coming], POLL_SECONDS).done:
                if request:
                    return self.batch  # it will not be used
            return coming.result()

        self._fetch(next_unless_stopped)

    def _fetch(self, call: Callable[[], PairBatch]) -> None:
        begun = time.perf_counter()
        try:
            self.batch = call()
        except (Fault, InputError) as error:
            self.failure = error
        self.wait = time.perf_counter() - begun

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """End all reads that are under way."""
        self._closing.set()
