"""Images behind URLs, read whole through fsspec, with a time limit and a few attempts.

By attempts and not by time (as shards are): of a million URLs from the web some hosts have gone for good.
"""

import errno
import time
from dataclasses import dataclass
from typing import cast

import fsspec

from ccscale.data.remote import location, retry
from ccscale.errors import InputError

SCHEMES = {"http": "aiohttp", "https": "aiohttp", "s3": "'ccscale[s3]'", "gs": "gcsfs"}  # to what they need
ATTEMPTS = 3
TIMEOUT_SECONDS = 15.0  # of an attempt
PAUSE_SECONDS = 0.5  # before the second attempt, twice as long before each later one
TYPICAL_BYTES = (
    128 * 1024
)  # of an image; to ask a server for each one's size would take as long as to read it


@dataclass(frozen=True, slots=True)
class Url:
    """An image behind a URL of one of the `SCHEMES`; `size` is a guess."""

    url: str

    @property
    def path(self) -> None:
        return None

    @property
    def size(self) -> int:
        return TYPICAL_BYTES

    def read(self) -> bytes:
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                filesystem, path = location.file_system(self.url)
                return cast(bytes, filesystem.cat_file(path, timeout=TIMEOUT_SECONDS))
            # File systems behind fsspec have exceptions of their own.
            except Exception as error:
                reason = retry.describe(error)
                if retry.is_final(error):
                    break
        raise OSError(errno.EIO, reason)


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
