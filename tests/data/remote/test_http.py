"""HTTP as good clients speak it: the environment's proxies, a name, and URLs letter for letter."""

import importlib.metadata
import json
import shutil

import pytest
import yarl
from harness.servers import ShardServer

from ccscale.data.reader import SampleReader
from ccscale.data.remote import location
from ccscale.data.remote.downloads import Url
from ccscale.data.remote.http import as_sent
from ccscale.data.shards.index import index_location, read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import verify

OWN = f"ccscale/{importlib.metadata.version('ccscale')}"
SIGNATURE = "sig=a%2Bb%2F%3D&x=a%20b&y=1+2~'"


@pytest.fixture
def folder(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "shards")


@pytest.fixture
def server(folder):
    with ShardServer(folder) as started:
        yield started


def sign(folder, server) -> Manifest:
    """Make the shards' urls absolute, with a signature that no other file has."""
    content = json.loads((folder / "dataset.json").read_text())
    for entry in content["shardlist"]:
        entry["url"] = f"{server.url}/{entry['url']}?{SIGNATURE}"
    signed = folder.parent / "signed"
    signed.mkdir()
    (signed / "dataset.json").write_text(json.dumps(content))
    server.signature = SIGNATURE
    return Manifest.load(signed)


@pytest.mark.parametrize(
    "url",
    [
        f"http://h/a/b.jpg?{SIGNATURE}",
        "http://h/%2e/%2F%7e/a%20b~!$&'()*+,;=:@.jpg",
        "https://user:p%40ss@h:8443/x?q=%E9&%41=[]|",
        "http://h",
    ],
)
def test_urls_are_sent_as_they_were_written(url):
    assert str(as_sent(url)) == url


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h/a b.jpg?x=é", "http://h/a%20b.jpg?x=%C3%A9"),
        ("http://h/100%.jpg", "http://h/100%25.jpg"),
        ("http://bücher.example/ü%2F", "http://xn--bcher-kva.example/%C3%BC%2F"),
        ("http://h/a\nb", "http://h/a%0Ab"),
    ],
)
def test_only_what_cannot_be_sent_is_quoted(url, sent):
    assert str(as_sent(url)) == sent
    assert isinstance(as_sent(url), yarl.URL)


def test_a_signed_image(server, folder):
    (folder / "a b.jpg").write_bytes(b"image")
    server.signature = SIGNATURE
    assert Url(f"{server.url}/a%20b.jpg?{SIGNATURE}").read() == b"image"
    assert server.targets == [f"/a%20b.jpg?{SIGNATURE}"]


def test_a_redirect_to_a_signed_image(server, folder):
    (folder / "a.jpg").write_bytes(b"image")
    server.redirect = {"here.jpg": f"/a.jpg?{SIGNATURE}"}
    server.signature = SIGNATURE
    assert Url(f"{server.url}/here.jpg").read() == b"image"
    assert server.targets[-1] == f"/a.jpg?{SIGNATURE}"


def test_signed_shards_and_their_indexes(server, folder):
    """The index is asked for beside the shard with the same query."""
    expected = [SampleReader(Manifest.load(folder), ["train"])[i] for i in (0, 7)]
    manifest = sign(folder, server)
    reader = SampleReader(manifest, ["train"])
    assert [reader[i] for i in (0, 7)] == expected
    index = f"/train-000000.index.parquet?{SIGNATURE}"
    assert server.targets[0] == index
    assert {target.partition("?")[2] for target in server.targets} == {SIGNATURE}


def test_a_403_for_a_missing_index_means_scan(server, folder):
    """As object stores answer without the right to list, or where the signature is the shard's alone."""
    expected = [SampleReader(Manifest.load(folder), ["train"])[i] for i in (0, 7)]
    server.fail(r"\.index\.parquet$", "403", float("inf"))
    manifest = sign(folder, server)
    reader = SampleReader(manifest, ["train"])
    assert [reader[i] for i in (0, 7)] == expected
    assert len(read_index(manifest, manifest.shards[0])) == manifest.shards[0].nsamples
    assert verify(manifest.root, workers=1).problems == []


@pytest.mark.parametrize(
    ("shard", "index"),
    [
        ("/data/a.tar", "/data/a.index.parquet"),
        ("/data/what?.tar", "/data/what?.index.parquet"),
        ("https://h/a.tar", "https://h/a.index.parquet"),
        ("https://h/a.tar?tok=1.tar", "https://h/a.index.parquet?tok=1.tar"),
        ("HTTP://h/a.tar?", "HTTP://h/a.index.parquet?"),
        ("simplecache::https://h/a.tar?x=1", "simplecache::https://h/a.index.parquet?x=1"),
        ("s3://b/what?.tar", "s3://b/what?.index.parquet"),
    ],
)
def test_where_an_index_is(shard, index):
    assert index_location(shard) == index


def test_a_folder_behind_a_signed_url(server, folder):
    """A token for all that a container holds, as Azure gives them."""
    assert location.join("https://h/c/?t=1", "a/b.tar") == "https://h/c/a/b.tar?t=1"
    assert location.join("s3://b/c?t", "a.tar") == "s3://b/c?t/a.tar"
    server.signature = SIGNATURE
    manifest = Manifest.load(f"{server.url}?{SIGNATURE}")
    assert SampleReader(manifest, ["train"])[0] == SampleReader(Manifest.load(folder), ["train"])[0]


def test_proxies_of_the_environment(server, folder, monkeypatch):
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    host = "http://shards.invalid"
    assert Manifest.load(host).splits == Manifest.load(folder).splits
    assert (
        SampleReader(Manifest.load(host), ["train"])[0] == SampleReader(Manifest.load(folder), ["train"])[0]
    )
    (folder / "1.jpg").write_bytes(b"image")
    assert Url(f"{host}/1.jpg?{SIGNATURE}").read() == b"image"
    assert server.targets[0] == f"{host}/dataset.json"
    assert server.targets[-1] == f"{host}/1.jpg?{SIGNATURE}"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert Url(f"{server.url}/1.jpg").read() == b"image"
    assert server.targets[-1] == "/1.jpg"


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        (None, OWN),
        ("photos of our lab (mail@lab.example)", "photos of our lab (mail@lab.example)"),
        (" \n", OWN),
        ("a\r\nX-Header: b", "a X-Header: b"),
    ],
)
def test_the_name_that_is_sent(server, folder, monkeypatch, own, sent):
    monkeypatch.delenv("CCSCALE_USER_AGENT", raising=False)
    if own is not None:
        monkeypatch.setenv("CCSCALE_USER_AGENT", own)
    (folder / "1.jpg").write_bytes(b"image")
    Url(f"{server.url}/1.jpg").read()
    reader = SampleReader(Manifest.load(server.url), ["train"])
    reader[0]
    assert server.agents == {sent}


def test_a_file_system_before_http_has_these_manners_too(server, folder):
    server.signature = SIGNATURE
    filesystem, path = location.file_system(f"simplecache::{server.url}/dataset.json?{SIGNATURE}")
    assert filesystem.cat_file(path) == (folder / "dataset.json").read_bytes()
    assert server.targets[-1] == f"/dataset.json?{SIGNATURE}"
    assert server.agents == {OWN}
