"""The feed holds the next batch, why there is none, and does not keep a run from stopping."""

import signal
import threading
from collections.abc import Iterator

import pytest
import torch
from harness.cuda_stand_in import stand_in_for_cuda

from ccscale.data.pairs import PairBatch
from ccscale.data.remote.retry import Closing
from ccscale.data.ring import Allot, plain_memory
from ccscale.errors import Fault
from ccscale.preempt import StopRequest
from ccscale.train.feed import Feed

CPU = torch.device("cpu")


def asked() -> StopRequest:
    request = StopRequest()
    request._note(signal.SIGTERM, None)
    return request


def batch(step: int) -> PairBatch:
    return PairBatch(step, None, None, (0, 0), (), None)  # type: ignore[arg-type]


def test_it_fetches_one_after_the_other_and_notes_the_failure() -> None:
    def batches(closing: Closing) -> Iterator[PairBatch]:
        yield batch(0)
        yield batch(1)
        raise Fault("the shard is gone")

    feed = Feed(batches, CPU)
    feed.fetch_first()
    assert feed.batch.step == 0
    feed.check()
    feed.fetch(StopRequest())
    assert feed.batch.step == 1
    assert feed.failure is None
    feed.fetch(StopRequest())
    assert feed.batch.step == 1
    with pytest.raises(Fault, match="the shard is gone"):
        feed.check()


def test_a_request_to_stop_ends_the_wait_and_closing_the_read() -> None:
    ended = threading.Event()

    def batches(closing: Closing) -> Iterator[PairBatch]:
        yield batch(0)
        closing.wait(60)
        ended.set()
        raise Fault("nobody waits")

    feed = Feed(batches, CPU)
    feed.fetch_first()
    feed.fetch(asked())
    assert feed.failure is None
    assert not ended.is_set()
    feed.close()
    assert ended.wait(30)


def test_closing_ends_what_reads_at_once() -> None:
    """The workers of a loader are its generator's: they are not to stay as long as the feed."""
    ended: list[bool] = []

    def batches(closing: Closing) -> Iterator[PairBatch]:
        try:
            yield batch(0)
            yield batch(1)
        finally:
            ended.append(True)

    feed = Feed(batches, CPU)
    feed.fetch_first()
    feed.close()
    assert ended


def test_other_errors_are_raised_at_once() -> None:
    def batches(closing: Closing) -> Iterator[PairBatch]:
        yield batch(0)
        raise RuntimeError("a worker died")

    feed = Feed(batches, CPU)
    feed.fetch_first()
    with pytest.raises(RuntimeError, match="a worker died"):
        feed.fetch(StopRequest())


class TestBegun:
    """On a GPU the next batch is read while the step is launched; what follows of it is told where it is joined."""

    def feed(self, device: torch.device, read: list[int], may_go_on: threading.Event) -> Feed:
        def batches(closing: Closing, allot: Allot | None = None) -> Iterator[PairBatch]:
            assert allot is not None
            for step in range(3):
                if step:
                    may_go_on.wait(30)
                read.append(step)
                images = allot((2, 1, 4, 4, 3), torch.uint8).fill_(step)
                yield PairBatch(step, images, None, (0, 0), (), None)  # type: ignore[arg-type]
            raise Fault("the shard is gone")

        return Feed(batches, device)

    def test_it_is_read_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[int] = []
        may_go_on = threading.Event()
        may_go_on.set()
        feed = self.feed(stand_in_for_cuda(monkeypatch), read, may_go_on)
        feed.fetch_first()
        for step in range(2):
            feed.begin()
            assert feed.batch.step == step  # as long as the step is taken
            feed.fetch(StopRequest())
            assert feed.batch.held.eq(step + 1).all()
        feed.begin()
        feed.check()
        feed.fetch(StopRequest())
        with pytest.raises(Fault, match="the shard is gone"):
            feed.check()
        assert read == [0, 1, 2]

    def test_a_request_to_stop_gives_it_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        may_go_on = threading.Event()
        feed = self.feed(stand_in_for_cuda(monkeypatch), [], may_go_on)
        feed.fetch_first()
        feed.begin()
        feed.fetch(asked())
        assert (feed.batch.step, feed.failure) == (0, None)
        assert float(feed.wait) > 0
        feed.close()
        may_go_on.set()


@pytest.mark.gpu
def test_on_a_gpu_images_are_there_when_the_device_uses_them(gpu: torch.device) -> None:
    """They are copied on another stream, while the step before them is computed."""
    images = [torch.full((2, 64, 224, 224, 3), step, dtype=torch.uint8) for step in range(8)]

    def batches(closing: Closing, allot: Allot | None = None) -> Iterator[PairBatch]:
        for step, whole in enumerate(images):
            yield PairBatch(
                step, (allot or plain_memory)(whole.shape, whole.dtype).copy_(whole), None, (0, 0), (), None
            )  # type: ignore[arg-type]

    feed = Feed(batches, gpu)
    feed.fetch_first()
    sums = []
    for step in range(8):
        if step < 7:
            feed.begin()
        if gpu.type == "cuda":
            torch.cuda._sleep(10_000_000)  # the device is busy: the host runs ahead of it
        sums.append(feed.batch.images.double().mean())
        if step < 7:
            feed.fetch(StopRequest())
    assert [float(mean) for mean in sums] == list(range(8))
