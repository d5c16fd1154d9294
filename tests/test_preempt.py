"""Signals are noted and nothing more; the handlers from before come back."""

import contextlib
import os
import signal
import threading
import time

import pytest
from conftest import python

from ccscale import preempt
from ccscale.preempt import SIGNALS, Stopped, stop_on_signal
from ccscale.threads import background


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
    assert {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} < set(SIGNALS)


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


def test_the_first_interrupt_is_a_request_and_the_second_leaves_at_once(capfd):
    with stop_on_signal() as request:
        interrupt()
        assert request.signal is signal.SIGINT
        assert "Ctrl-C again" in capfd.readouterr().err
        request.time -= preempt.SAME_SECONDS
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def test_an_interrupt_that_comes_twice_is_one():
    """From the terminal, and from a launcher that passes it on."""
    with stop_on_signal() as request:
        interrupt()
        request.time += 60
        interrupt()


def test_an_interrupt_after_another_signal_is_the_second(capfd):
    with stop_on_signal() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        request.time -= preempt.SAME_SECONDS
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def test_the_command_ends_at_once_on_a_second_interrupt():
    """Whatever it waits for."""
    code = (
        "import os, signal, time\n"
        "from ccscale.process_exit import exit_at_once\n"
        "from ccscale import preempt\n"
        "preempt.SAME_SECONDS = 0\n"
        "with preempt.stop_on_signal(leave=exit_at_once) as request:\n"
        "    try:\n"
        "        for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(600)\n"
        "    finally:\n"
        "        time.sleep(600)\n"
    )
    ended = python("-c", code)
    assert ended.returncode == 130
    assert ended.stderr.splitlines() == [
        "stopping in order; Ctrl-C again leaves at once, without saving",
        "interrupted again: ended at once, with nothing more saved",
    ]


def test_what_leaves_nothing_to_save_ends_at_once():
    with stop_on_signal() as request:
        with request.at_once():
            pass
        for again in (False, True):  # on a request of before, too
            with pytest.raises(Stopped), request.at_once():
                wait_for_a_signal(not again)
        os.kill(os.getpid(), signal.SIGTERM)  # and after it, signals are noted as ever


def wait_for_a_signal(send: bool) -> None:
    if send:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)


def test_items_are_closed_whoever_refers_to_them():
    closed = []

    def items():
        try:
            yield from range(3)
        finally:
            closed.append(True)

    with stop_on_signal() as request:
        of_others = items()
        coming = request.until(of_others)
        assert next(coming) == 0
        coming.close()
        assert closed


def test_items_come_until_a_request():
    def items():
        yield from range(3)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)

    with stop_on_signal() as request:
        assert list(request.until(n for n in range(4))) == [0, 1, 2, 3]
        assert list(request.until(items())) == [0, 1, 2]
        assert list(request.until(n for n in range(4))) == []


def test_in_another_thread_nothing_is_heard_and_nothing_breaks():
    def listen() -> bool:
        before = [signal.getsignal(number) for number in SIGNALS]
        with stop_on_signal() as request:
            return not request and before == [signal.getsignal(number) for number in SIGNALS]

    assert background(listen).result()


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


def test_each_request_is_its_own():
    with stop_on_signal() as request:
        os.kill(os.getpid(), signal.SIGTERM)
    with stop_on_signal() as another:
        assert not another
    assert request
