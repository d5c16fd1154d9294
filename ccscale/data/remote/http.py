"""How HTTP is spoken: URLs are sent as they were written, by the environment's proxies, under ccscale's name.

    HTTP_PROXY, HTTPS_PROXY, NO_PROXY   as curl and requests obey them, ``~/.netrc`` too
    CCSCALE_USER_AGENT                  sent instead of ``ccscale/<version>``; many hosts want one with an address

A signature in a URL covers the URL's letters: nothing that is valid in a URL is quoted or unquoted on the way, in
redirects neither.
"""

import importlib.metadata
import os
import re
import urllib.parse
from typing import Any

import yarl
from fsspec.implementations.http import HTTPFileSystem

USER_AGENT = "CCSCALE_USER_AGENT"

_UNSENDABLE = re.compile(r"[^\x21-\x7e]+|%(?![0-9A-Fa-f]{2})")
_NOT_OF_A_HEADER = re.compile(r"[\x00-\x1f\x7f]+")


def as_sent(url: str) -> yarl.URL:
    """Return a URL as it is; only what HTTP has no letters for (white space, é, a bare ``%``) is quoted."""
    before, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if not host.isascii():
        host = yarl.URL(f"{before}{mark}{host}").raw_authority
    path = _UNSENDABLE.sub(lambda found: urllib.parse.quote(found[0]), path)
    return yarl.URL(f"{before}{mark}{host}{slash}{path}", encoded=True)


def user_agent() -> str:
    """Return what requests are sent under."""
    own = f"ccscale/{importlib.metadata.version('ccscale')}"
    return _NOT_OF_A_HEADER.sub(" ", os.environ.get(USER_AGENT, "")).strip() or own


def session_options(agent: str) -> dict[str, Any]:
    """Return the arguments of an `aiohttp.ClientSession`."""
    return {"headers": {"User-Agent": agent}, "trust_env": True, "requote_redirect_url": False}


class HttpFileSystem(HTTPFileSystem):
    """fsspec's file system of http and https, with these manners; `agent` is `user_agent` by default."""

    def __init__(self, agent: str, **options: Any) -> None:
        super().__init__(client_kwargs=session_options(agent), **options)

    def encode_url(self, url: str) -> yarl.URL:
        return as_sent(url)
