"""A service in this process: what it answers, what it refuses, and that one client harms no other."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import numpy as np
import pytest
from harness.odd_images import BAD, ODD
from harness.services import Means, Shelf, in_process

from ccscale.data.images.whole import whole_image
from ccscale.data.sources.contents import encode_png
from ccscale.errors import BadImage, InputError
from ccscale.serve import batching
from ccscale.serve.decoders import Decoders
from ccscale.serve.limits import Limits
from ccscale.serve.serve import ServiceSettings

ASSIGN = "/v1/assign"


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(2, 2**24, 5.0) as decoders:
        yield decoders


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


def test_an_image_in_its_cluster_out(decoders):
    async def talk() -> None:
        async with client(Shelf(Means("v7")), decoders) as session:
            status, told = await post(session, grey(40), params={"key": "a/b ü.png"})
            assert (status, told["id"], told["version"], told["key"]) == (200, 40, "v7", "a/b ü.png")
            async with session.get("/") as response:
                assert (await response.json())["version"] == "v7"
            for path in ("/livez", "/readyz"):
                async with session.get(path) as response:
                    assert response.status == 200
            async with session.get("/metrics") as response:
                text = await response.text()
                assert response.headers["Content-Type"].startswith("text/plain; version=")
            assert 'ccscale_images_total{outcome="assigned"} 1.0' in text
            assert 'ccscale_requests_total{route="/v1/assign",status="200"} 1.0' in text
            assert 'ccscale_serving_info{clusters="256",version="v7"} 1.0' in text

    asyncio.run(talk())


def test_a_form_of_several_with_any_names(decoders):
    async def talk() -> None:
        async with client(Shelf(Means()), decoders) as session:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("comment", "no image")
            for value, name in ((10, "a.png"), (20, "猫 ü.png"), (30, "a.png"), (None, "bad.jpg")):
                data = b"garbage" if value is None else grey(value)
                form.add_field("image", data, filename=name, content_type="image/png")
            status, told = await post(session, form)
            assert status == 200
            *good, bad = told["images"]
            assert [(one["key"], one["id"]) for one in good[:1] + good[2:]] == [("a.png", 10), ("a.png", 30)]
            assert (good[1]["key"], good[1]["id"]) == ("猫 ü.png", 20)
            assert bad["error"].startswith("it is not an image in a known format")

    asyncio.run(talk())


def test_images_are_read_as_everywhere(decoders):
    """HEIC, TIFF, CMYK, turned, animated; what is bad elsewhere is bad here, with the same reason."""
    shelf = Shelf(Means())

    def expected(data: bytes) -> int | str:
        try:
            return round(whole_image(data, 8, most_pixels=2**24).astype(float).mean())
        except BadImage as error:
            return f"the image cannot be decoded: {error}"

    async def talk() -> None:
        async with client(shelf, decoders) as session:
            for name, (data, *_) in [*ODD.items(), *BAD.items()]:
                if not data:
                    continue
                status, told = await post(session, data)
                wanted = expected(data)
                assert (told["id"] if status == 200 else told["error"]) == wanted, name
                assert status == (200 if isinstance(wanted, int) else 422)

    asyncio.run(talk())


REFUSED = {
    "no bytes": ({"data": b""}, 400, "an image has no bytes"),
    "no image in the form": (
        {
            "data": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nabc\r\n--x--\r\n',
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        400,
        "the form has no image",
    ),
    "another boundary": (
        {"data": b"--x\r\n\r\nabc", "headers": {"Content-Type": "multipart/form-data; boundary=y"}},
        400,
        "the form cannot be read",
    ),
    "no boundary": (
        {"data": b"abc", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "the form cannot be read",
    ),
    "cut off": (
        {
            "data": b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc',
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        400,
        "the form cannot be read",
    ),
    "squeezed": ({"data": b"x", "headers": {"Content-Encoding": "gzip"}}, 415, "the body has a Content-Enc"),
    "large": ({"data": b"x" * 5_001}, 413, "the body has more than the 5,000 bytes"),
    "vast": ({"data": BAD["vast PNG"][0]}, 422, "the image cannot be decoded: it claims"),
}


@pytest.fixture(scope="module")
def refusals(decoders) -> dict[str, tuple[int, dict]]:
    async def talk() -> dict[str, tuple[int, dict]]:
        settings = ServiceSettings(limits=Limits(body=5_000, images=2))
        async with client(Shelf(Means()), decoders, settings) as session:
            found = {name: await post(session, **asked) for name, (asked, *_) in REFUSED.items()}

            async def chunks() -> AsyncIterator[bytes]:
                for _ in range(100):
                    yield bytes(1_000)

            with contextlib.suppress(aiohttp.ClientError):  # or the connection is closed under it
                found["no length"] = await post(session, chunks())
            many = aiohttp.FormData([("image", grey(value)) for value in (1, 2, 3)])
            found["many"] = await post(session, many)
            for method, path in (
                ("GET", ASSIGN),
                ("DELETE", ASSIGN),
                ("GET", "/v1/none"),
                ("GET", "/../etc"),
            ):
                async with session.request(method, path) as response:
                    found[f"{method} {path}"] = response.status, await response.json()
            found["after all"] = await post(session, grey(9))
            return found

    return asyncio.run(talk())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(refusals, name):
    _, status, sentence = REFUSED[name]
    assert refusals[name][0] == status
    assert refusals[name][1]["error"].startswith(sentence)


def test_more_that_is_refused(refusals):
    assert refusals.get("no length", (413,))[0] == 413
    assert refusals["many"][0] == 413
    assert [refusals[f"GET {path}"][0] for path in (ASSIGN, "/v1/none", "/../etc")] == [405, 404, 404]
    assert refusals[f"DELETE {ASSIGN}"] == (405, {"error": "Method Not Allowed"})
    assert refusals["after all"][1]["id"] == 9


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


def test_a_new_version_takes_over_and_what_is_under_way_ends_with_the_old_one(decoders, capsys, monkeypatch):
    free, decode = threading.Event(), decoders.decode
    free.set()
    monkeypatch.setattr(decoders, "decode", lambda *image: free.wait(20) and decode(*image))

    async def until(session: aiohttp.ClientSession, version: str) -> None:
        while (await post(session, grey(5)))[1]["version"] != version:
            await asyncio.sleep(0.02)

    async def talk() -> None:
        shelf = Shelf(Means("first"))
        async with client(shelf, decoders) as session, asyncio.timeout(30):
            shelf.here = Means("old")
            await until(session, "old")
            free.clear()
            under_way = asyncio.create_task(post(session, grey(1)))
            await asyncio.sleep(0.1)
            shelf.here = InputError("it is damaged")
            await asyncio.sleep(1.2)
            shelf.here = Means("new")
            await asyncio.sleep(1.2)
            free.set()
            assert (await under_way)[1]["version"] == "old"
            await until(session, "new")
            async with session.get("/metrics") as response:
                text = await response.text()
            assert 'ccscale_reloads_total{outcome="failed"} 1.0' in text
            assert 'ccscale_reloads_total{outcome="loaded"} 2.0' in text

    asyncio.run(talk())
    said = capsys.readouterr().err
    assert "a new version could not be loaded; still serving old: it is damaged" in said


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


def test_a_fault_of_the_network_is_told_and_the_next_one_is_answered(decoders, capsys):
    class Breaks(Means):
        def answer(self, images):
            if len(self.batches) < 1:
                self.batches.append(0)
                raise RuntimeError("CUDA error")
            return super().answer(images)

    async def talk() -> None:
        async with client(Shelf(Breaks()), decoders) as session:
            assert (await post(session, grey(1)))[0] == 500
            assert (await post(session, grey(1)))[0] == 200

    asyncio.run(talk())
    assert "a request was not answered: RuntimeError: CUDA error" in capsys.readouterr().err


async def lives(session: aiohttp.ClientSession) -> int:
    async with session.get("/livez") as response:
        return response.status


def test_what_does_not_answer_any_more_is_to_be_started_again(decoders, monkeypatch):
    class Breaks(Means):
        def answer(self, images):
            raise RuntimeError("CUDA error")

    async def talk() -> None:
        async with client(Shelf(Breaks()), decoders) as session:
            for status in (200, 200, 503):
                assert (await post(session, grey(1)))[0] == 500
                assert await lives(session) == status
        monkeypatch.setattr(batching, "STUCK_SECONDS", 0.2)
        means = Means()
        async with client(Shelf(means), decoders) as session:
            means.free.clear()
            asked = asyncio.create_task(post(session, grey(1)))
            await asyncio.sleep(0.6)
            status = await lives(session)
            means.free.set()
            assert status == 503
            assert (await asked)[0] == 200
            assert await lives(session) == 200

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
