"""Signals are noted and nothing more; the handlers from before come back."""

import contextlib
import os
import signal
import threading
import time

import pytest

from ccscale.train.preempt import SIGNALS, stop_on_signal


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signal_is_noted(number):
    with stop_on_signal() as request:
        assert not request
        assert request.signal is None
        before = time.monotonic()
        os.kill(os.getpid(), number)
        assert request
        assert request.signal is number
        assert before <= request.time <= time.monotonic()


def test_slurm_s_and_submitit_s_signals_are_taken():
    assert set(SIGNALS) == {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


def test_second_signal_changes_nothing():
    with stop_on_signal() as request:
        os.kill(os.getpid(), signal.SIGUSR1)
        first = request.time
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            time.sleep(0.002)
            os.kill(os.getpid(), number)
        assert (request.signal, request.time) == (signal.SIGUSR1, first)


@pytest.mark.parametrize("error", [None, RuntimeError()], ids=["done", "failed"])
def test_handlers_come_back(error):
    seen = []
    own = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with contextlib.suppress(RuntimeError), stop_on_signal() as request:
            assert not set(before) & {signal.getsignal(number) for number in SIGNALS}
            os.kill(os.getpid(), signal.SIGUSR1)
            if error is not None:
                raise error
        assert request.signal is signal.SIGUSR1
        assert seen == []
        assert [signal.getsignal(number) for number in SIGNALS] == before
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, own)


def test_interrupt_is_left_alone():
    """Ctrl-C stops at once, as people expect."""
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signal() as request:
        assert signal.getsignal(signal.SIGINT) is before
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert not request


def test_others_may_be_taken_too():
    with stop_on_signal((*SIGNALS, signal.SIGINT)) as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signal is signal.SIGINT


def test_waiting_ends_with_the_request():
    with stop_on_signal() as request:
        begun = time.monotonic()
        request.wait(0.02)
        assert time.monotonic() - begun >= 0.02
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        request.wait(60)
        assert request.signal is signal.SIGTERM
        assert time.monotonic() - begun < 30


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)


def test_each_request_is_its_own():
    with stop_on_signal() as request:
        os.kill(os.getpid(), signal.SIGTERM)
    with stop_on_signal() as another:
        assert not another
    assert request
