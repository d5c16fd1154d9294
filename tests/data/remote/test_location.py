"""What is known of the schemes of URLs."""

import pytest

from ccscale.data.remote import location
from ccscale.data.remote.location import check_scheme, scheme
from ccscale.errors import InputError


def test_schemes(monkeypatch):
    assert [scheme(text) for text in ("HTTPS://x/y", "s3://b/k", "a/b.jpg", "")] == ["https", "s3", "", ""]
    for name in ("http", "https", "s3"):
        check_scheme(name)

    def missing(name):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(location.fsspec, "get_filesystem_class", missing)
    with pytest.raises(InputError, match=r"s3:// needs another package: run `pip install 'ccscale\[s3\]'`"):
        check_scheme("s3")
