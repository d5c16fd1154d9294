"""The images in a request: its body, or the files of a form."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import BodyPartReader, web

from ccscale.serve.limits import Limits, RequestRefused

FIELD = "image"
CHUNK = 2**16


@dataclass(frozen=True, slots=True)
class Upload:
    """An image of a request.

    Attributes
    ----------
    key
        The file's name in the form, or what the client calls the body (``?key=``).
    data
        The encoded image.
    """

    key: str | None
    data: bytes


async def read_uploads(request: web.Request, limits: Limits) -> list[Upload]:
    """Return the images of a request, at least one.

    Raises
    ------
    Refused
        If it is too large or too slow, or has no image.
    """
    check_length(request, limits)
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise RequestRefused(415, "the body has a Content-Encoding: send the image as it is")
    try:
        async with asyncio.timeout(limits.seconds):
            read = _form if request.content_type == "multipart/form-data" else _body
            uploads = await read(request, limits)
    except TimeoutError:
        raise RequestRefused(408, f"the body was not there within {limits.seconds:g} s") from None
    if not all(upload.data for upload in uploads):
        raise RequestRefused(
            400, "an image has no bytes: send the file itself, as `curl --data-binary @FILE` does"
        )
    return uploads


def check_length(request: web.Request, limits: Limits) -> None:
    """Refuse a request whose declared length is too large, before reading it."""
    if (request.content_length or 0) > limits.body:
        raise _too_large(limits)


def _too_large(limits: Limits) -> RequestRefused:
    return RequestRefused(413, f"the body has more than the {limits.body:,} bytes that are taken")


async def _body(request: web.Request, limits: Limits) -> list[Upload]:
    data = await _take(request.content.readany, limits, limits.body)
    return [Upload(request.query.get("key"), data)]


async def _form(request: web.Request, limits: Limits) -> list[Upload]:
    uploads: list[Upload] = []
    left = limits.body
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise RequestRefused(400, "the form has another form in it")
            data = await _take(lambda part=part: part.read_chunk(CHUNK), limits, left)  # type: ignore[misc]
            left -= len(data)
            if part.filename is not None or part.name == FIELD:
                uploads.append(Upload(part.filename, data))
            if len(uploads) > limits.images:
                raise RequestRefused(
                    413, f"the form has more than the {limits.images} images that are taken at once"
                )
    except (RequestRefused, TimeoutError):
        raise
    except Exception as error:  # the reader lets out whatever it stumbles over in a broken form
        raise RequestRefused(400, f"the form cannot be read: {' '.join(str(error).split())}") from None
    if not uploads:
        raise RequestRefused(400, f"the form has no image: send files, in the field '{FIELD}'")
    return uploads


async def _take(read: Callable[[], Awaitable[bytes]], limits: Limits, most: int) -> bytes:
    """Read to the end, but not more than is taken."""
    data = bytearray()
    while chunk := await read():
        data += chunk
        if len(data) > most:
            raise _too_large(limits)
    return bytes(data)
