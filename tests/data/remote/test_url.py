"""Images behind URLs are read from real servers, tried again where that may help, and given up with a reason."""

import fsspec
import pytest
from listings import encoded
from servers import ShardServer, s3_bucket

from ccscale.data.remote import url
from ccscale.data.remote.url import Url, check_scheme, scheme
from ccscale.errors import InputError

IMAGE = encoded(0, size=(64, 48))


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(url, "PAUSE_SECONDS", 0.01)
    (tmp_path / "1.jpg").write_bytes(IMAGE)
    with ShardServer(tmp_path) as started:
        yield started


def test_a_whole_image_is_read_at_once(server):
    content = Url(f"{server.url}/1.jpg")
    assert content.read() == IMAGE
    assert (content.path, content.size) == (None, url.TYPICAL_BYTES)
    assert dict(server.requests) == {"1.jpg": 1}  # its size is not asked for


@pytest.mark.parametrize("fault", ["503", "429", "cut", "reset"])
def test_failures_that_pass_are_outlasted(server, fault):
    server.fail("jpg", fault, 2)
    assert Url(f"{server.url}/1.jpg").read() == IMAGE
    assert server.requests["1.jpg"] == 3


@pytest.mark.parametrize(
    ("fault", "requests", "reason"),
    [
        ("404", 1, "there is no such file"),
        ("403", 1, "access to it is refused"),
        ("503", 3, "the server answers 503"),
        ("429", 3, "the server answers 429"),
        ("stall", 3, "the server sends nothing"),
        ("cut", 3, None),
    ],
)
def test_what_does_not_pass_is_given_up_with_a_reason(server, monkeypatch, fault, requests, reason):
    monkeypatch.setattr(url, "TIMEOUT_SECONDS", 0.2 if fault == "stall" else 20)
    server.fail("jpg", fault, 100)
    with pytest.raises(OSError) as error:
        Url(f"{server.url}/1.jpg").read()
    assert error.value.strerror == (reason or error.value.strerror)
    assert error.value.strerror  # what rejected.csv tells
    assert server.requests["1.jpg"] == requests


def test_no_server_at_all(server):
    server.close()
    with pytest.raises(OSError) as error:
        Url(f"{server.url}/1.jpg").read()
    assert "onnect" in error.value.strerror


def test_an_object_store(tmp_path):
    (tmp_path / "1.jpg").write_bytes(IMAGE)
    store = fsspec.get_filesystem_class("s3")
    store.clear_instance_cache()  # of other tests' endpoints
    try:
        with s3_bucket("images", tmp_path) as place:
            assert Url(f"{place}/1.jpg").read() == IMAGE
            with pytest.raises(OSError) as error:
                Url(f"{place}/2.jpg").read()
            assert error.value.strerror == "there is no such file"
    finally:
        store.clear_instance_cache()


def test_schemes(monkeypatch):
    assert [scheme(text) for text in ("HTTPS://x/y", "s3://b/k", "a/b.jpg", "")] == ["https", "s3", "", ""]
    for name in ("http", "https", "s3"):
        check_scheme(name)

    def missing(name):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(url.fsspec, "get_filesystem_class", missing)
    with pytest.raises(InputError, match=r"s3:// needs another package: run `pip install 'ccscale\[s3\]'`"):
        check_scheme("s3")
