"""The limits of a request."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_ADDRESSES = 10_000
"""Whose rates are kept; the one that was heard longest ago is forgotten first."""


@dataclass(frozen=True)
class Limits:
    """Of the service.

    Attributes
    ----------
    body
        Bytes of a request.
    pixels
        Of an image.
    images
        In a request.
    seconds
        In which a request is to be there, from its first line to its last byte; and an image decoded.
    at_once
        Requests that are being read and answered.
    rate
        Requests a second of an address, on average; None for any.
    """

    body: int = 20 * 2**20
    pixels: int = 2**26
    images: int = 64
    seconds: float = 10.0
    at_once: int = 256
    rate: float | None = None


class RequestRefused(Exception):
    """A request that is refused; the message is for its client.

    Attributes
    ----------
    status
        Of HTTP.
    again
        Seconds after which it may be tried again, where that helps.
    """

    def __init__(self, status: int, sentence: str, again: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.again = status, again


class Rate:
    """How often each address may ask: so many times a second on average, a second's worth of them at once.

    Parameters
    ----------
    a_second
        Of each address; None for any number.
    clock
        In seconds.
    """

    def __init__(self, a_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = a_second, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # and when that was

    def take(self, address: str) -> None:
        """Count a request.

        Raises
        ------
        Refused
            If it comes too soon.
        """
        if self._rate is None:
            return
        now, most = self._clock(), max(self._rate, 1.0)
        left, before = self._left.pop(address, (most, now))
        left = min(most, left + (now - before) * self._rate)
        self._left[address] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        if left < 1:
            raise RequestRefused(
                429,
                f"more than {self._rate:g} requests a second came from {address}: ask less often",
                again=math.ceil((1 - left) / self._rate),
            )
