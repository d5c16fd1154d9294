"""A service in a process of its own, and in this one."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import numpy as np
from numpy.typing import NDArray

from ccscale.data.sources.contents import encode_png
from ccscale.serve.answer import Answer, Answerer
from ccscale.serve.decoders import Decoders
from ccscale.serve.metrics import Metrics
from ccscale.serve.reloading import ReloadingClusters
from ccscale.serve.serve import ServiceSettings, answer, take_port

ASSIGN = "/v1/assign"


class Process:
    """``ccscale serve``, from when it takes requests."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "ccscale", "serve", *map(str, arguments), "--port", "0", "--json"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.url: str = json.loads(line)["url"]
        self.port = int(self.url.rpartition(":")[2])

    def stop(self) -> tuple[int, str]:
        """Tell it to stop; return its exit code and what it has said."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextlib.contextmanager
def service(*arguments: str | Path) -> Iterator[Process]:
    """Run a service for the length of the context."""
    started = Process(*arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


class Means:
    """An answerer whose clusters are the images' mean values."""

    clusters, size, scaled_decode = 256, 8, True

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.batches: list[int] = []
        self.free = threading.Event()  # until then it does not answer
        self.free.set()

    def answer(self, images: NDArray[np.uint8]) -> list[Answer]:
        self.batches.append(len(images))
        assert self.free.wait(20)
        means = images.reshape(len(images), -1).mean(axis=1)
        return [Answer(round(mean), None, 1.0, None, None, self.version) for mean in means]


class Shelf:
    """A source of clusters that a test changes."""

    def __init__(self, first: Answerer) -> None:
        self.here: Answerer | Exception = first

    def state(self) -> int:
        return id(self.here)

    def open(self) -> Answerer:
        if isinstance(self.here, Exception):
            raise self.here
        return self.here


@contextlib.asynccontextmanager
async def in_process(
    shelf: Shelf, decoders: Decoders, settings: ServiceSettings | None = None
) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Run a service in this event loop; yield its URL, and what stops it."""
    urls: asyncio.Queue[str] = asyncio.Queue()
    stop, metrics = asyncio.Event(), Metrics()
    settings = replace(settings or ServiceSettings(), port=0)
    with take_port(settings.host, 0) as listening:
        served = ReloadingClusters(shelf, metrics)
        running = asyncio.create_task(
            answer(listening, settings, served, decoders, metrics, lambda url, _: urls.put_nowait(url), stop)
        )
        coming = asyncio.create_task(urls.get())
        await asyncio.wait([coming, running], return_when=asyncio.FIRST_COMPLETED)
        try:
            if coming.done():
                yield coming.result(), stop
        finally:
            stop.set()
            await running


def grey(value: int, side: int = 8) -> bytes:
    return encode_png(np.full((side, side, 3), value, dtype=np.uint8))


@contextlib.asynccontextmanager
async def client(
    shelf: Shelf, decoders: Decoders, settings: ServiceSettings | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    async with in_process(shelf, decoders, settings) as (url, _), aiohttp.ClientSession(url) as session:
        yield session


async def post(session: aiohttp.ClientSession, data: object, **more: object) -> tuple[int, dict]:
    async with session.post(ASSIGN, data=data, **more) as response:
        return response.status, await response.json()
