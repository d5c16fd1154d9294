"""Dry runs of the losses, to measure their cost: only the first few of many equal parts are computed.

Tiles, strips of S and the rows of other ranks are processed one after the other, and each takes equally long.
`ccscale plan` measures the losses of a batch of any size with the first few of them (`plan/loss_cost.py`);
training computes all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from itertools import islice
from typing import NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DryRun(NamedTuple):
    """What a pass is to take: the first `few` of what is alike, and tiles as for a GPU or not."""

    few: int
    cuda: bool


_current: ContextVar[DryRun | None] = ContextVar("dry_run", default=None)


def current() -> DryRun | None:
    """Return what is asked of this pass; None: it is a real one."""
    return _current.get()


@contextmanager
def dry_run(few: int, cuda: bool) -> Iterator[None]:
    """Let the losses take the first `few` of what is alike, with tiles as for a GPU if `cuda`."""
    token = _current.set(DryRun(few, cuda))
    try:
        yield
    finally:
        _current.reset(token)


def alike(iterate: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Mark a generator whose items take the same each."""

    @wraps(iterate)
    def first(*args: P.args, **options: P.kwargs) -> Iterator[T]:
        dry, items = current(), iterate(*args, **options)
        return items if dry is None else islice(items, dry.few)

    return first
