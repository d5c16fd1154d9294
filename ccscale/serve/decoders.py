"""Decoder processes for images from strangers: an image that crashes one harms no other request.

It may end the process, by a fault of a library, or keep it busy forever: then it is killed, and begun anew. What
comes back from a process is plain bytes and is never unpickled: the first is `PIXELS` or `BAD`.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from ccscale.data.images.decode import silence_pillow
from ccscale.data.images.whole import whole_image
from ccscale.errors import BadImage

PIXELS, BAD, BEGUN = b"\0", b"\1", b"\2"
MOST_ANSWER = 2**28


class Decoders(contextlib.AbstractContextManager["Decoders"]):
    """So many processes; calls come from the threads of `threads`, of which there are as many."""

    def __init__(self, count: int, most_pixels: int, seconds: float) -> None:
        self._seconds = seconds
        self._all = [_Decoder(most_pixels) for _ in range(count)]
        self._free: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        for decoder in self._all:
            self._free.put(decoder)
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        for decoder in self._all:
            decoder.end()

    def decode(self, data: bytes, size: int, scaled: bool) -> NDArray[np.uint8]:
        """Return an image (size, size, 3), as `whole_image` does.

        Raises
        ------
        BadImage
            If it cannot be decoded, is too large, takes too long or ends the process.
        """
        decoder = self._free.get()
        try:
            answer = decoder.ask(data, size, scaled, self._seconds)
        finally:
            self._free.put(decoder)
        if answer[:1] != PIXELS:
            raise BadImage(answer[1:].decode("utf-8", "replace"))
        return np.frombuffer(answer, dtype=np.uint8, offset=1).reshape(size, size, 3)


class _Decoder:
    """One process at a time, restarted when it has ended."""

    def __init__(self, most_pixels: int) -> None:
        self._most_pixels = most_pixels
        self._has_begun = False
        self._begin()

    def ask(self, data: bytes, size: int, scaled: bool, seconds: float) -> bytes:
        """Return the answer to an image."""
        if not self._process.is_alive():  # ended by others, and through no fault of this image
            self._renew()
        try:
            if not self._has_begun:  # which takes a time of its own
                self._has_begun = self._connection.recv_bytes() == BEGUN
            self._connection.send((size, scaled))
            self._connection.send_bytes(data)
            if self._connection.poll(seconds):
                return self._connection.recv_bytes(MOST_ANSWER)
            why = f"it was not decoded within {seconds:g} s"
        except (EOFError, OSError):
            why = "its decoder has ended, by a fault of a library or for want of memory"
        self._renew()
        return BAD + why.encode()

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _renew(self) -> None:
        self.end()
        self._begin()

    def _begin(self) -> None:
        # Spawned: a fork would copy the locks of threads. It loads no torch, which would take seconds.
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, self._most_pixels), daemon=True)
        self._process.start()
        self._has_begun = False
        other.close()  # so that each sees when the other one is gone


def _work(connection: Connection, most_pixels: int) -> None:
    """Decode images until nobody asks any more."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they may go to all processes; who asks will end this one
        signal.signal(number, signal.SIG_IGN)
    silence_pillow()
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(BEGUN)
        while True:
            size, scaled = connection.recv()
            connection.send_bytes(_decode(connection.recv_bytes(), size, scaled, most_pixels))
    os._exit(0)


def _decode(data: bytes, size: int, scaled: bool, most_pixels: int) -> bytes:
    try:
        return PIXELS + whole_image(data, size, scaled, most_pixels).tobytes()
    except BadImage as error:
        return BAD + str(error).encode("utf-8", "replace")
    except MemoryError:
        return BAD + b"there is not enough memory for it"
