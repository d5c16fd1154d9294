"""The feed holds the next batch, why there is none, and does not keep a run from stopping."""

import signal
import threading
from collections.abc import Iterator

import pytest

from ccscale.data.retry import Closing
from ccscale.data.stream import PairBatch
from ccscale.errors import Fault
from ccscale.train.feed import Feed
from ccscale.train.preempt import StopRequest


def asked() -> StopRequest:
    request = StopRequest()
    request._note(signal.SIGTERM, None)
    return request


def batch(step: int) -> PairBatch:
    return PairBatch(step, None, None, (0, 0), ())  # type: ignore[arg-type]


def test_it_fetches_one_after_the_other_and_notes_the_failure() -> None:
    def batches(closing: Closing) -> Iterator[PairBatch]:
        yield batch(0)
        yield batch(1)
        raise Fault("the shard is gone")

    feed = Feed(batches)
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

    feed = Feed(batches)
    feed.fetch_first()
    feed.fetch(asked())
    assert feed.failure is None
    assert not ended.is_set()
    feed.close()
    assert ended.wait(30)


def test_other_errors_are_raised_at_once() -> None:
    def batches(closing: Closing) -> Iterator[PairBatch]:
        yield batch(0)
        raise RuntimeError("a worker died")

    feed = Feed(batches)
    feed.fetch_first()
    with pytest.raises(RuntimeError, match="a worker died"):
        feed.fetch(StopRequest())
