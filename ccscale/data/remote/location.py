"""Local paths and fsspec URLs, opened alike."""

import os
import re
from typing import Any, BinaryIO, cast

import fsspec
import fsspec.asyn

from ccscale.errors import InputError
from ccscale.regular import regular

LOCAL_PROTOCOLS = ("file://", "local://")
SCHEMES = {"http": "aiohttp", "https": "aiohttp", "s3": "'ccscale[s3]'", "gs": "gcsfs"}  # to what they need

_HTTP = re.compile("^(.*::)?(https?)://", re.IGNORECASE | re.DOTALL)
_WITH_QUERY = re.compile(r"((?:.*::)?https?://[^?#]*)([?#].*)", re.IGNORECASE | re.DOTALL)

# fsspec's thread does not survive a fork, and not every release of it notices that it is gone.
os.register_at_fork(after_in_child=fsspec.asyn.reset_lock)


def is_url(location: str) -> bool:
    """Return whether a location is an fsspec URL (``s3://…``, ``simplecache::https://…``), not a local path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)", location) is not None


def local_or_url(location: str | os.PathLike[str]) -> str:
    """Return a location as text, ``file://`` URLs as the paths that they are."""
    text = os.fspath(location)
    for protocol in LOCAL_PROTOCOLS:
        text = text.removeprefix(protocol)
    return text


def scheme(url: str) -> str:
    """Return what stands before ``://``, in lower case; "" where there is no such thing."""
    before, mark, _ = url.partition("://")
    return before.lower() if mark else ""


def check_scheme(name: str) -> None:
    """Refuse a scheme for which a package is missing.

    Raises
    ------
    InputError
        With the package.
    """
    try:
        fsspec.get_filesystem_class(name)
    except ImportError:
        raise InputError(f"{name}:// needs another package: run `pip install {SCHEMES[name]}`") from None


def join(root: str, name: str) -> str:
    """Return the location of a relative `name` below `root`; an absolute URL stays what it is.

    The query of a `root` that is behind HTTP, such as a signature for all that is in it, goes along.
    """
    if is_url(name):
        return name
    if not is_url(root):
        return os.path.join(root, name)
    root, query = without_query(root)
    return f"{root.rstrip('/')}/{name}{query}"


def without_query(location: str) -> tuple[str, str]:
    """Return a location up to the query of its HTTP URL, and this query with its ``?``; "" if there is none."""
    found = _WITH_QUERY.fullmatch(location)
    return (found[1], found[2]) if found else (location, "")


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of an fsspec URL, and the path there.

    Raises
    ------
    ImportError
        If a package is missing.
    """
    found = _HTTP.search(url)
    if found is None:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    from ccscale.data.remote import http  # which needs aiohttp

    agent = http.user_agent()
    if not found[1]:
        return http.HttpFileSystem(agent), url
    # Behind another file system, as in simplecache::https://…
    options = {found[2].lower(): {"client_kwargs": http.session_options(agent), "encoded": True}}
    return cast(tuple[Any, str], fsspec.core.url_to_fs(url, **options))


def open_binary(location: str) -> BinaryIO:
    """Open a file for reading; raises what `open` or fsspec's file system raises."""
    if is_url(location):
        filesystem, path = file_system(location)
        return cast(BinaryIO, filesystem.open(path, "rb"))
    return open(location, "rb", opener=regular)


def list_names(root: str) -> list[str]:
    """Return the names in a folder, sorted; raises FileNotFoundError if there is none."""
    if not is_url(root):
        return sorted(os.listdir(root))
    filesystem, path = file_system(root)
    return sorted(name.rstrip("/").rpartition("/")[2] for name in filesystem.ls(path, detail=False))
