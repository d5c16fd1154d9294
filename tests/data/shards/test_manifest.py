"""The manifest reads back as written, and each way in which it can be wrong is refused in a sentence."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import InputError

SHA = "ab" * 32


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    shards = (
        Shard("train-000000.tar", 3, 5120, SHA, "train"),
        Shard("val-000000.tar", 2, 4096, SHA, "val"),
        Shard("train-000001.tar", 4, 6144, SHA, "train"),
    )
    for shard in shards:
        (tmp_path / shard.url).write_bytes(bytes(shard.filesize))
    made_by = {"kind": "folder", "options": {"seed": 0}, "ccscale": "0.1.0"}
    result = Manifest(
        str(tmp_path), "pets", shards, ("Katze", "größter Hund"), ("c", "d"), {"train": 7, "val": 0}, made_by
    )
    result.save()
    return result


def test_round_trip_with_the_same_bytes(manifest, tmp_path):
    path = tmp_path / "dataset.json"
    first = path.read_bytes()
    loaded = Manifest.load(tmp_path)
    assert loaded == manifest
    loaded.save()
    assert path.read_bytes() == first
    assert str(tmp_path).encode() not in first
    assert not list(tmp_path.glob("*.part"))


def test_keys_of_others_are_passed_over(manifest, tmp_path):
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    content["shardlist"][0]["md5sum"] = content["theirs"] = content["ccscale"]["later"] = "?"
    path.write_text(json.dumps(content))
    assert Manifest.load(tmp_path) == manifest


def test_is_sent_to_other_processes(manifest):
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_is_a_wids_index(manifest, tmp_path):
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert (content["__kind__"], content["wids_version"]) == ("wids-shard-index-v1", 1)
    assert content["shardlist"][1] == {
        "url": "val-000000.tar", "nsamples": 2, "filesize": 4096, "sha256": SHA, "split": "val"
    }  # fmt: skip
    assert content["ccscale"]["splits"] == {
        "train": {"samples": 7, "shards": 2, "labelled": 7},
        "val": {"samples": 2, "shards": 1, "labelled": 0},
    }


def test_splits_and_select(manifest):
    assert manifest.splits == {"train": (7, 2), "val": (2, 1)}
    assert [shard.url for shard in manifest.select(["train"])] == ["train-000000.tar", "train-000001.tar"]
    assert manifest.select(("val", "train")) == manifest.shards
    with pytest.raises(InputError, match="no split 'trian'; did you mean 'train'"):
        manifest.select(["trian"])
    with pytest.raises(InputError, match="no split 'x'; it has train, val"):
        manifest.select(["x"])


def test_digest_pins_what_a_run_reads_and_nothing_else(manifest):
    digest = manifest.digest(["train"])
    assert digest == manifest.digest(["train"]) != manifest.digest(["train", "val"])
    first, val, last = manifest.shards
    assert replace(manifest, root="/elsewhere", name="cats").digest(["train"]) == digest
    assert replace(manifest, shards=(first, replace(val, sha256="00" * 32), last)).digest(["train"]) == digest
    for changed in (replace(last, sha256="00" * 32), replace(last, nsamples=5), replace(last, url="x.tar")):
        assert replace(manifest, shards=(first, val, changed)).digest(["train"]) != digest
    assert replace(manifest, shards=(last, val, first)).digest(["train"]) != digest


def test_locate(manifest, tmp_path):
    assert manifest.is_local
    assert manifest.locate(manifest.shards[0]) == str(tmp_path / "train-000000.tar")
    away = replace(manifest, root="s3://bucket/pets/")
    assert not away.is_local
    assert away.locate(manifest.shards[0]) == "s3://bucket/pets/train-000000.tar"
    assert away.locate(replace(manifest.shards[0], url="https://host/a.tar")) == "https://host/a.tar"
    assert Manifest.load(f"file://{tmp_path}") == manifest


def test_loads_through_fsspec(manifest, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/pets/dataset.json", (tmp_path / "dataset.json").read_bytes())
    loaded = Manifest.load("memory://pets")
    assert loaded == replace(manifest, root="memory://pets")
    loaded.check_files(["train"])  # shards behind URLs are not looked at
    with pytest.raises(InputError, match=r"memory://nothing has no dataset\.json"):
        Manifest.load("memory://nothing")
    memory.pipe("/bare/a.tar", b"")
    with pytest.raises(
        InputError, match=r"memory://bare contains tars .*`ccscale shards index memory://bare`"
    ):
        Manifest.load("memory://bare")


def test_check_files(manifest, tmp_path):
    manifest.check_files(["train", "val"])
    (tmp_path / "val-000000.tar").write_bytes(b"five!")
    manifest.check_files(["train"])
    with pytest.raises(
        InputError, match=r"val-000000\.tar does not match its manifest .*5 bytes, not 4.*shards verify"
    ):
        manifest.check_files(["val"])
    (tmp_path / "train-000001.tar").unlink()
    with pytest.raises(InputError, match=r"train-000001\.tar does not match .*No such file"):
        manifest.check_files(["train"])


def test_missing(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; .*`ccscale shards make`"):
        Manifest.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no dataset\.json; .*`ccscale shards make`"):
        Manifest.load(tmp_path)
    (tmp_path / "a.tar").touch()
    with pytest.raises(InputError, match=r"contains tars but no dataset\.json: `ccscale shards index"):
        Manifest.load(tmp_path)


def set_in(*path_and_value):
    *path, last, value = path_and_value

    def change(content):
        for name in path:
            content = content[name]
        content[last] = value

    return change


def drop(*path):
    def change(content):
        for name in path[:-1]:
            content = content[name]
        del content[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("wids_version", 2), "not a shard index of version 1"),
        (drop("shardlist"), "not a shard index of version 1"),
        (drop("ccscale"), "no section 'ccscale'.*shards index"),
        (set_in("ccscale", "version", 2), "has version 2 and this ccscale reads version 1: upgrade ccscale"),
        (drop("name"), "'name' is missing"),
        (drop("shardlist", 1, "sha256"), r"'shardlist\.1\.sha256' is missing.*shards index"),
        (
            set_in("shardlist", 0, "nsamples", -1),
            r"'shardlist\.0\.nsamples' is wrong: .*greater than or equal to 0",
        ),
        (
            set_in("shardlist", 2, "filesize", 10**30),
            r"'shardlist\.2\.filesize' is wrong: .*less than or equal to 281474976710656",
        ),
        (set_in("ccscale", "splits", "val", "samples", 2**63), r"'ccscale\.splits\.val\.samples' is wrong"),
        (set_in("shardlist", 0, "sha256", SHA + "\n"), r"'shardlist\.0\.sha256' is wrong"),
        (set_in("shardlist", 0, "split", ""), r"'shardlist\.0\.split' is wrong"),
        (set_in("shardlist", 0, "url", 5), r"'shardlist\.0\.url' is wrong"),
        (set_in("shardlist", 0, "filesize", "5"), r"'shardlist\.0\.filesize' is wrong"),
        (set_in("shardlist", 0, "nsamples", True), r"'shardlist\.0\.nsamples' is wrong"),
        (
            set_in("shardlist", 0, "nsamples", 2**40),
            r"the shard train-000000\.tar is said to hold 1099511627776 samples in 5120 bytes",
        ),
        (
            set_in("ccscale", "classes", ["x"] * (2**20 + 1)),
            "there are 1,048,577 classes, and 1,048,576 are read",
        ),
        (set_in("shardlist", 0, "nsamples", 4), "counts in 'ccscale.splits' are not those of the shards"),
        (set_in("shardlist", 1, "url", "train-000000.tar"), r"train-000000\.tar is listed twice"),
        (set_in("ccscale", "splits", "val", "labelled", 3), "val has more labelled samples than samples"),
        (set_in("ccscale", "classes", ["c"]), "different lengths"),
    ],
)
def test_refuses(manifest, tmp_path, change, message):
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "", "\udcff", "[" * 100_000])
def test_refuses_what_is_no_index(tmp_path, text):
    (tmp_path / "dataset.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        InputError, match=r"dataset\.json is (not valid JSON|not a shard index).*shards index"
    ):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    "url",
    ["../x.tar", "a/../../x.tar", "/etc/x.tar", "pipe:cat x", "pipe://x", "file:///x.tar", "FILE:///x.tar",
     "local:///x.tar", "simplecache::file:///x.tar", "https://host/::file:///x.tar", "", "https://h/../x.tar",
     "%2e%2e/x.tar", "a/%2E./x.tar", "https://h/%2e%2e/x.tar", "..\\x.tar", "https://h/..\\x.tar", "file:/x.tar",
     "C:/x.tar", "PIPE:cat x", "LOCAL:///x", "//host/x.tar", "zip://x::file:///y", ".", "a/", "a/."],
)  # fmt: skip
def test_urls_do_not_lead_out_of_the_folder(manifest, tmp_path, url):
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    content["shardlist"][0]["url"] = url
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="leads out of the folder"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("url", ["pipe:touch {}/ran; cat x", "PIPE:touch {}/ran"])
def test_no_command_is_run_from_data(manifest, tmp_path, url):
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    content["shardlist"][0]["url"] = url.format(tmp_path)
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"none is run from data: .* s3://… \(`pip install 'ccscale\[s3\]'`\)"
    ):
        Manifest.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_urls_below_the_folder_and_elsewhere_are_taken(manifest, tmp_path):
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    urls = ["deep/train-..0.tar", "https://host/val.tar", "s3://bucket/a.tar"]
    for entry, url in zip(content["shardlist"], urls, strict=True):
        entry["url"] = url
    path.write_text(json.dumps(content))
    assert [shard.url for shard in Manifest.load(tmp_path).shards] == urls


@pytest.mark.parametrize("name", ["a\0b.tar", "a\nb.tar", "\x1b[2Jx.tar", "a\u2028b.tar"])
@pytest.mark.parametrize("field", ["url", "split"])
def test_names_have_no_control_characters(manifest, tmp_path, field, name):
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    content["shardlist"][0][field] = name
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"control characters in its name") as caught:
        Manifest.load(tmp_path)
    assert str(caught.value).isprintable()


def test_a_link_in_the_folder_may_lead_anywhere(manifest, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x").write_bytes(bytes(30))
    (tmp_path / "train-000000.tar").unlink(missing_ok=True)
    (tmp_path / "train-000000.tar").symlink_to(tmp_path / "elsewhere/x")
    shard = Manifest.load(tmp_path).shards[0]
    assert Path(manifest.locate(shard)).read_bytes() == bytes(30)
