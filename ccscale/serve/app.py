"""The HTTP routes of the service, and its error responses.

    POST /v1/assign    an image as the body, or a form of several -> {"id", "name", "confidence", …}: `answer.py`
    GET  /             what is served
    GET  /livez        200 while the process does its work: else it is to be started again
    GET  /readyz       200 while it takes requests: else send them elsewhere
    GET  /metrics      Prometheus' text

What is refused has the sentence as {"error": …}.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from aiohttp import web

from ccscale.errors import BadImage, first_line
from ccscale.progress import say
from ccscale.serve.answer import Answerer
from ccscale.serve.batching import Batcher
from ccscale.serve.decoders import Decoders
from ccscale.serve.limits import Limits, Rate, RequestRefused
from ccscale.serve.metrics import Metrics
from ccscale.serve.reloading import ReloadingClusters
from ccscale.serve.uploads import Upload, check_length, read_uploads

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """Handles requests.

    Attributes
    ----------
    stopping
        Whether it is to end: what comes is answered, and told to come no more.
    in_progress
        How many requests are being answered.
    """

    def __init__(
        self,
        served: ReloadingClusters,
        decoders: Decoders,
        batcher: Batcher,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.stopping, self.in_progress, self._assigning = False, 0, 0
        self._served, self._decoders, self._batcher = served, decoders, batcher
        self._limits, self._metrics, self._rate = limits, metrics, Rate(limits.rate)

    def app(self) -> web.Application:
        """Return the routes."""

        @web.middleware  # it cannot mark a method
        async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._tell(request, handler)

        app = web.Application(middlewares=[tell], client_max_size=self._limits.body)
        app.router.add_post("/v1/assign", self._assign, expect_handler=self._expect)
        app.router.add_get("/", self._about)
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._show_metrics)
        return app

    async def _assign(self, request: web.Request) -> web.StreamResponse:
        self._rate.take(request.remote or "")
        if self._is_full:
            raise RequestRefused(
                503, f"{self._limits.at_once} requests are being answered: try again", again=1
            )
        self._assigning += 1
        try:
            return await self._assign_uploads(request)
        finally:
            self._assigning -= 1

    @property
    def _is_full(self) -> bool:
        return self._assigning >= self._limits.at_once

    async def _assign_uploads(self, request: web.Request) -> web.StreamResponse:
        uploads = await read_uploads(request, self._limits)
        served = self._served.current
        told = await asyncio.gather(*(self._answer(served, upload) for upload in uploads))
        is_form = request.content_type == "multipart/form-data"
        bad = [one["error"] for one in told if "error" in one]
        if len(bad) == len(told) and (len(told) == 1 or not is_form):
            raise RequestRefused(422, f"the image cannot be decoded: {bad[0]}")
        return web.json_response({"images": told} if is_form else told[0])

    async def _answer(self, answerer: Answerer, upload: Upload) -> dict[str, Any]:
        """Return the answer for an image."""
        loop, key = asyncio.get_running_loop(), {} if upload.key is None else {"key": upload.key}
        try:
            pixels = await loop.run_in_executor(
                self._decoders.threads,
                self._decoders.decode,
                upload.data,
                answerer.size,
                answerer.scaled_decode,
            )
        except BadImage as error:
            self._metrics.image(None)
            return key | {"error": str(error)}
        answer = await self._batcher.answer(answerer, pixels)
        self._metrics.image(answer)
        return key | answer.as_json()

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer a client that asks before it sends a large body; None: it may."""
        try:
            check_length(request, self._limits)
            if request.headers["Expect"].lower() != "100-continue":
                raise RequestRefused(417, "the header Expect is not understood: leave it out")
        except RequestRefused as refused:
            response = _told(refused)
            response.force_close()
            return response
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def _about(self, _: web.Request) -> web.StreamResponse:
        served = self._served.current
        return web.json_response(
            {"ccscale": version("ccscale"), "version": served.version, "clusters": served.clusters}
        )

    async def _live(self, _: web.Request) -> web.StreamResponse:
        if not self._batcher.works:
            raise RequestRefused(503, "the network does not answer")
        return web.json_response({"live": True})

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        if self.stopping or not self._batcher.works or self._is_full:
            raise RequestRefused(503, "it is stopping" if self.stopping else "it is busy", again=1)
        return web.json_response({"ready": True, "version": self._served.current.version})

    async def _show_metrics(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": self._metrics.content_type})

    async def _tell(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request, and turn exceptions into JSON error responses."""
        begin, status = time.monotonic(), 499  # the client has gone
        self.in_progress += 1
        self._metrics.in_progress.set(self.in_progress)
        try:
            response = await _sentence(request, handler)
            status = response.status
            if self.stopping or status in (408, 413):
                response.force_close()
            return response
        finally:
            self.in_progress -= 1
            self._metrics.in_progress.set(self.in_progress)
            resource = request.match_info.route.resource
            route = "none" if resource is None else resource.canonical
            self._metrics.request(route, status, time.monotonic() - begin)


async def _sentence(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestRefused as refused:
        return _told(refused)
    except web.HTTPException as error:  # aiohttp's own: no such path, not this method
        headers = {name: value for name, value in error.headers.items() if name == "Allow"}
        return web.json_response({"error": error.reason}, status=error.status, headers=headers)
    except Exception as error:
        say(f"a request was not answered: {type(error).__name__}: {first_line(error)}")
        return web.json_response({"error": "a fault of the service, which has told of it"}, status=500)


def _told(refused: RequestRefused) -> web.Response:
    headers = {} if refused.again is None else {"Retry-After": str(refused.again)}
    return web.json_response({"error": str(refused)}, status=refused.status, headers=headers)
