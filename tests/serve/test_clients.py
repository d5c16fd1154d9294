"""Many clients of a service in this process, and odd and slow ones: none harms another."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator

import aiohttp
import pytest
from harness.services import ASSIGN, Means, Shelf, client, grey, in_process, post

from ccscale.serve.decoders import Decoders
from ccscale.serve.limits import Limits
from ccscale.serve.serve import ServiceSettings


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(2, 2**24, 5.0) as decoders:
        yield decoders


async def raw(url: str, data: bytes, seconds: float = 5) -> bytes:
    """Send bytes and return what comes until the connection is closed, or nothing more does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(data)
    found = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            while more := await reader.read(2**16):
                found += more
    writer.close()
    return found


def request(data: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"POST {ASSIGN} HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(data) if length is None else length}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + data


def test_odd_talk(decoders):
    """Pipelined requests are answered in their order; headers have limits; what is no HTTP has its 400."""

    async def talk() -> None:
        async with in_process(Shelf(Means()), decoders) as (url, _):
            piped = b"".join(request(grey(value)) for value in (1, 2, 3)) + request(
                grey(4), "Connection: close"
            )
            found = await raw(url, piped)
            bodies = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in found.split(b"HTTP/1.1 200")[1:]]
            assert [one["id"] for one in bodies] == [1, 2, 3, 4]
            for bad in (
                b"garbage\r\n\r\n",
                request(b"x", "A: " + "x" * 20_000),
                request(b"x", *(f"A{i}: x" for i in range(2_000))),
                b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
                b"POST /v1/assign HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            ):
                assert (await raw(url, bad)).startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")), bad[:40]
            large = request(b"", "Expect: 100-continue", length=10**9)
            assert (await raw(url, large, 1)).startswith(b"HTTP/1.1 413")
            asks = await raw(url, request(b"", "Expect: 100-continue", length=5), 0.3)
            assert asks.startswith(b"HTTP/1.1 100 ")

    asyncio.run(talk())


def test_slow_clients_and_such_as_go_away_hold_up_nobody(decoders):
    async def talk() -> None:
        means = Means()
        async with in_process(Shelf(means), decoders, ServiceSettings(limits=Limits(seconds=0.4))) as (
            url,
            _,
        ):
            slow = [asyncio.create_task(raw(url, request(b"abc", length=1_000))) for _ in range(40)]
            for _ in range(20):  # these go away, some before and some while they are answered
                with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as gone:
                    gone.sendall(request(grey(1)))
            async with aiohttp.ClientSession(url) as session:
                begin = time.monotonic()
                for value in range(10, 20):
                    assert (await post(session, grey(value)))[1]["id"] == value
                took = time.monotonic() - begin
            for answer in await asyncio.gather(*slow):
                assert answer.startswith(b"HTTP/1.1 408")
                assert b"the body was not there within 0.4 s" in answer
            assert took < 5

    asyncio.run(talk())


def test_images_of_many_requests_go_through_the_network_together(decoders):
    async def talk() -> None:
        means = Means()
        async with client(Shelf(means), decoders, ServiceSettings(batch=8, window=0.05)) as session:
            means.free.clear()
            asked = [asyncio.create_task(post(session, grey(value))) for value in range(30)]
            await asyncio.sleep(0.5)
            means.free.set()
            assert [told["id"] for _, told in await asyncio.gather(*asked)] == list(range(30))
            assert max(means.batches) == 8
            assert len(means.batches) < 10

    asyncio.run(talk())


def test_it_ends_when_it_has_answered_what_it_has(decoders):
    async def talk() -> None:
        means = Means()
        async with in_process(Shelf(means), decoders) as (url, stop):
            means.free.clear()
            data = request(grey(3))
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(data[:-5])  # the rest of it comes when it is stopping
            async with aiohttp.ClientSession(url) as session:
                asked = [asyncio.create_task(post(session, grey(value))) for value in range(5)]
                await asyncio.sleep(0.3)
                stop.set()
                await asyncio.sleep(0.1)
                with pytest.raises(OSError):
                    await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                writer.write(data[-5:])
                means.free.set()
                assert [told["id"] for _, told in await asyncio.gather(*asked)] == list(range(5))
                answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 200")
                assert b"Connection: close" in answer

    asyncio.run(talk())


def test_too_many_at_once_and_too_often(decoders):
    async def talk() -> None:
        means = Means()
        limits = Limits(at_once=3, rate=8)
        async with client(Shelf(means), decoders, ServiceSettings(limits=limits)) as session:
            means.free.clear()
            asked = [asyncio.create_task(post(session, grey(value))) for value in range(8)]
            async with asyncio.timeout(60):
                while sum(one.done() for one in asked) < 5:
                    await asyncio.sleep(0.01)
            async with session.get("/readyz") as response:
                assert response.status == 503
            async with session.get("/livez") as response:
                assert response.status == 200
            means.free.set()
            found = [status for status, _ in await asyncio.gather(*asked)]
            assert found.count(200) == 3
            assert found.count(503) == 5
            await asyncio.sleep(1)  # eight more may come by then, on any machine
            found = [(await post(session, b"x"))[0] for _ in range(60)]
            assert set(found) == {422, 429}

    asyncio.run(talk())
