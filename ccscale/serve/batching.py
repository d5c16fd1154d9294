"""Batches images of many requests: one forward pass of many images is cheaper than many passes of one."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccscale.serve.answer import Answer, Answerer
from ccscale.serve.metrics import Metrics

STUCK_SECONDS = 60.0
"""A batch that takes longer will not end."""
FAILURES = 3
"""Batches that have failed one after the other, after which the next ones will not do better."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    answerer: Answerer
    pixels: NDArray[np.uint8]
    answer: "asyncio.Future[Answer]"


class Batcher:
    """Gathers images for a short time, and has them answered in one thread, a batch after the other.

    Parameters
    ----------
    most
        Images in a batch.
    window
        Seconds that the first image of a batch waits for others, where the network is free.
    metrics
        Counts.
    """

    def __init__(self, most: int, window: float, metrics: Metrics) -> None:
        self._most, self._window, self._metrics = most, window, metrics
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._began: float | None = None
        self._failures = 0

    @property
    def works(self) -> bool:
        """Return whether the network answers."""
        stuck = self._began is not None and time.monotonic() - self._began > STUCK_SECONDS
        return not stuck and self._failures < FAILURES

    async def answer(self, answerer: Answerer, pixels: NDArray[np.uint8]) -> Answer:
        """Return the answer to an image (size, size, 3) of the answerer's size."""
        waiting = _Waiting(answerer, pixels, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        return await waiting.answer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer for the length of the context."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            gathered = await self._gather()
            # Those of the version before come first, as they came.
            for _, same in itertools.groupby(gathered, lambda one: id(one.answerer)):
                await self._pass(list(same))

    async def _gather(self) -> list[_Waiting]:
        """Return the next batch: the waiting images and those that arrive within the window."""
        batch = [await self._queue.get()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._window):
                while len(batch) < self._most:
                    batch.append(await self._queue.get())
        while len(batch) < self._most and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    async def _pass(self, batch: Sequence[_Waiting]) -> None:
        batch = [one for one in batch if not one.answer.done()]  # whose client has gone in the meantime
        if not batch:
            return
        loop = asyncio.get_running_loop()
        images = np.stack([one.pixels for one in batch])
        self._began = time.monotonic()
        try:
            answers = await loop.run_in_executor(self._thread, batch[0].answerer.answer, images)
        except Exception as error:
            self._failures += 1
            _tell(batch, error)
        else:
            self._failures = 0
            self._metrics.batch(len(batch), time.monotonic() - self._began)
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)
        finally:
            self._began = None


def _tell(batch: Sequence[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)
