"""A service in this process: what it answers, what it refuses, and what it does when versions or networks fail."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from harness.odd_images import BAD, ODD
from harness.services import ASSIGN, Means, Shelf, client, grey, post

from ccscale.data.images.whole import whole_image
from ccscale.errors import BadImage, InputError
from ccscale.serve import batching
from ccscale.serve.decoders import Decoders
from ccscale.serve.limits import Limits
from ccscale.serve.serve import ServiceSettings


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(2, 2**24, 5.0) as decoders:
        yield decoders


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
