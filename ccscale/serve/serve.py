"""``ccscale serve RUN|EXPORT``: opens a port, loads the network, and answers requests until a signal.

On SIGTERM or Ctrl-C it takes no more connections, answers what it has, and ends.
"""

import asyncio
import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.process_exit import exit_at_once
from ccscale.process_group import process_group
from ccscale.progress import say
from ccscale.rank_environment import RankEnvironment
from ccscale.serve.app import Service
from ccscale.serve.batching import Batcher
from ccscale.serve.decoders import Decoders
from ccscale.serve.limits import Limits
from ccscale.serve.metrics import Metrics
from ccscale.serve.reloading import ReloadingClusters
from ccscale.serve.source import ClusterSource

POLL_SECONDS = 0.02
IDLE_SECONDS = 20.0
"""An idle connection, or one whose request has no end of headers, is closed after so long."""
LINGER_SECONDS = 2.0
"""What a client sends after its answer is read and dropped for so long, so that it sees the answer."""
BACKLOG = 1024


@dataclass(frozen=True)
class ServiceSettings:
    """Of the service, beside what is served.

    Attributes
    ----------
    host, port
        Where it listens; port 0: any that is free.
    batch
        Images that go through the network at a time.
    window
        Seconds that an image waits for others.
    decoders
        Processes that decode; by default one per core, but at least 2 and at most 4.
    grace
        Seconds for what is under way when it is to stop.
    limits
        Of requests.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    batch: int = 32
    window: float = 0.005
    decoders: int | None = None
    grace: float = 30.0
    limits: Limits = field(default_factory=Limits)

    @property
    def processes(self) -> int:
        """How many decode."""
        return self.decoders or min(max(len(os.sched_getaffinity(0)), 2), 4)


def serve(source: ClusterSource, settings: ServiceSettings, started: Callable[[str, str], None]) -> None:
    """Answer requests until a signal.

    Raises
    ------
    InputError
        If there is nothing to serve, or the port cannot be had.
    """
    env = RankEnvironment.read()
    if env.world > 1:
        raise InputError("serve runs in one process: start it without torchrun, deepspeed or srun")
    limits, metrics = settings.limits, Metrics()
    with (
        take_port(settings.host, settings.port) as listening,
        process_group(
            env, pick_device(source.device, env.local_rank)
        ),  # which what is loaded later joins, too
        Decoders(settings.processes, limits.pixels, limits.seconds) as decoders,
    ):
        served = ReloadingClusters(source, metrics)

        async def until_signal() -> None:
            await answer(listening, settings, served, decoders, metrics, started, _stop_on_signal())

        asyncio.run(until_signal())


async def answer(
    listening: socket.socket,
    settings: ServiceSettings,
    served: ReloadingClusters,
    decoders: Decoders,
    metrics: Metrics,
    started: Callable[[str, str], None],
    stop: asyncio.Event,
) -> None:
    """Answer requests until asked to stop, and then finish those in progress."""
    batcher = Batcher(settings.batch, settings.window, metrics)
    service = Service(served, decoders, batcher, settings.limits, metrics)
    runner = web.AppRunner(
        service.app(),
        access_log=None,
        handler_cancellation=True,  # nobody waits for the answer to a client that has gone
        auto_decompress=False,
        keepalive_timeout=IDLE_SECONDS,
        lingering_time=LINGER_SECONDS,
        shutdown_timeout=LINGER_SECONDS,
    )
    async with batcher.running():
        following = asyncio.create_task(served.follow())
        await runner.setup()
        site = web.SockSite(runner, listening, backlog=BACKLOG)
        try:
            await _listen(site, settings)
            started(_url(listening), served.current.version)
            await stop.wait()
        finally:
            service.stopping = True
            following.cancel()
            # Not by the runner at once: it would drop what is still to come of a body.
            await site.stop()
            await _until_answered(service, settings.grace)
            await runner.cleanup()


async def _until_answered(service: Service, seconds: float) -> None:
    """Wait for the requests in progress, including those that are still being read."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.sleep(POLL_SECONDS)
            while service.in_progress:
                await asyncio.sleep(POLL_SECONDS)


def _stop_on_signal() -> asyncio.Event:
    """Return an event that the first SIGTERM or Ctrl-C sets; a second Ctrl-C ends the process."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def hear(number: signal.Signals) -> None:
        if stop.is_set():
            if number == signal.SIGINT:
                exit_at_once()
            return
        say(f"stopping on {number.name} once open requests are answered")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)
    return stop


def take_port(host: str, port: int) -> socket.socket:
    """Take a port without listening: who comes before the network is there is turned away, and does not wait."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except OSError as error:
        raise InputError(f"--host {host} is not an address of this machine: {error.strerror}") from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise _refusal(error, host, port) from None
    if not ipaddress.ip_address(address[0]).is_loopback:
        say(
            f"note: anyone who can reach {host} may send images: the service has no authentication and no "
            "encryption; put a proxy that does in front of it"
        )
    return listening


async def _listen(site: web.SockSite, settings: ServiceSettings) -> None:
    try:
        await site.start()
    except OSError as error:  # another one was bound to the same port, and has begun to listen
        raise _refusal(error, settings.host, settings.port) from None


def _refusal(error: OSError, host: str, port: int) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"port {port} of {host} is in use: stop what listens there, or choose another --port (0: any "
            "free port)"
        )
    return InputError(
        f"cannot listen on port {port} of {host}: {error.strerror}; choose another --port or --host"
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
