"""Calls in threads that never keep a process from ending.

The threads of `concurrent.futures` are waited for at exit: one that sits in a dead connection would hold the
process until it gives up.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def background(call: Callable[[], T]) -> "Future[T]":
    """Begin a call in a thread of its own, with the GPU of the thread that begins it."""
    future: Future[T] = Future()
    cuda = _cuda()
    device = cuda.current_device() if cuda else None

    def run() -> None:
        try:
            if cuda:
                cuda.set_device(device)  # a thread begins with the first one, and would take memory there
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _cuda() -> Any:
    """Return `torch.cuda` where this process uses it, and import nothing for that."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


def each(calls: Sequence[Callable[[], T]], at_once: int) -> list[T]:
    """Make calls, up to `at_once` at a time, and return what they return in their order.

    The first that fails is raised, and those that were not begun by then are left out.
    """
    results: dict[int, T] = {}
    left = iter(range(len(calls)))
    lock, failed = threading.Lock(), threading.Event()

    def work() -> None:
        while not failed.is_set():
            with lock:
                number = next(left, None)
            if number is None:
                return
            try:
                results[number] = calls[number]()
            except BaseException:
                failed.set()
                raise

    others = [background(work) for _ in range(min(at_once, len(calls)) - 1)]
    work()
    for other in others:
        other.result()
    return [results[number] for number in range(len(calls))]
