"""Measures how long the device waits for batches, without synchronizing the host, and warns if it is long.

A GPU computes a step long after the host has launched it, so the host's clock says nothing about the device: one
event is recorded after the step's work, another after the arrival of the next batch, and the time between them is
read when the log is flushed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ccscale.wording import counted

SHARE = 0.1
"""Fraction of the time spent waiting for data from which it is reported."""
STEPS = 10
"""Minimum number of steps before waits are reported."""


class DeviceWait:
    """The seconds from the end of a GPU's work to the next batch being there; known when a later step is computed.

    Parameters
    ----------
    stream
        The compute stream, after its work has been launched.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._idle, self._there = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._idle.record(stream)

    def end(self) -> None:
        """Note that the stream has been told to wait for the batch, which is on its way."""
        self._there.record(self._stream)

    def __float__(self) -> float:
        return self._idle.elapsed_time(self._there) / 1000


class DataWaits:
    """Reports once that a GPU waits for data; not for a CPU, whose cores the loader uses too.

    Parameters
    ----------
    device
        Where it trains.
    images
        In a step of all ranks.
    workers
        Loader processes of this rank; 0 where features are read.
    """

    def __init__(self, device: torch.device, images: int, workers: int) -> None:
        self._images, self._workers = images, workers
        self._warm, self._told = False, device.type != "cuda"

    def news(self, lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Yield messages after some lines of the log; the first lines after a start are ignored."""
        if len(lines) < STEPS or self._told:
            return
        seconds = sum(self._images / line["images_per_second"] for line in lines)
        waited = sum(line["data_wait"] for line in lines)
        if self._warm and waited > SHARE * seconds:
            self._told = True
            yield (
                f"the device waits for data {min(1.0, waited / seconds):.0%} of the time: "
                f"{rates(self._images, seconds / len(lines), waited / len(lines), self._workers)}; more cores and "
                "workers (data.workers) help, or smaller pictures in the shards (`ccscale shards make --resize`)"
            )
        self._warm = True


def rates(images: int, seconds: float, waited: float, workers: int) -> str:
    """Return a sentence with the rates at which images are delivered and could be processed.

    Parameters
    ----------
    images
        In a step.
    seconds, waited
        Duration of a step, and the time in it spent waiting for data.
    workers
        As for `DataWaits`.
    """
    who = f"{counted(workers, 'loader worker')} a rank" if workers else "the store"
    give = "gives" if workers < 2 else "give"
    if waited <= SHARE * seconds:
        return f"{who} {give} the {images / seconds:,.0f} images a second that are taken"
    taken = f"{images / (seconds - waited):,.0f}" if waited < seconds else "many more"
    return f"{who} {give} {images / seconds:,.0f} images a second, and {taken} could be taken"
