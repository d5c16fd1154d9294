"""The schemes of URLs, and what each needs."""

import fsspec

from ccscale.errors import InputError

SCHEMES = {"http": "aiohttp", "https": "aiohttp", "s3": "'ccscale[s3]'", "gs": "gcsfs"}  # to what they need


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
