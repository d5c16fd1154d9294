"""Verification finds and names each kind of damage, and goes on past it."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from harness.servers import ShardServer
from PIL import Image

from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.index import read_index, scan_tar, write_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import info, verify
from ccscale.data.sources.contents import Bytes
from ccscale.data.sources.items import Item, Source
from ccscale.errors import InputError


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), grey).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shards(tmp_path) -> Manifest:
    """Three shards of four training samples each, and one of two unlabelled samples."""
    train = [Item(f"t{i}", Bytes(png(i)), i % 2, f"t{i}") for i in range(12)]
    test = [Item(f"u{i}", Bytes(png(i)), None, f"u{i}") for i in range(2)]
    source = Source("x", "digits", ("even", "odd"), ("0", "1"), {"train": train, "test": test})
    return make_shards(source, tmp_path / "x", shard_samples=4, workers=1, progress=False)


def found(manifest: Manifest, **options) -> list[tuple[str, str]]:
    return [
        (problem.shard, problem.what)
        for problem in verify(manifest.root, **{"workers": 1, **options}).problems
    ]


def place(manifest: Manifest, number: int) -> Path:
    return Path(manifest.locate(manifest.shards[number]))


def rewrite(manifest: Manifest, number: int, members: list[tuple[str, bytes]]) -> Manifest:
    """Put other members into a shard, with size, hash and index to match; return the saved manifest."""
    path = place(manifest, number)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    data = path.read_bytes()
    write_index(str(path.with_suffix("")) + ".index.parquet", scan_tar(path))
    shard = replace(
        manifest.shards[number],
        filesize=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        nsamples=len(scan_tar(path)),
    )
    changed = replace(
        manifest, shards=tuple(shard if i == number else other for i, other in enumerate(manifest.shards))
    )
    changed.save()
    return changed


def test_whole_shards_have_no_problems(shards):
    assert found(shards) == []
    assert found(shards, workers=2) == []


def test_all_problems_are_found_in_one_go(shards):
    flipped = bytearray(place(shards, 0).read_bytes())
    row = read_index(shards, shards.shards[0])
    flipped[int(row.offsets[2]) + 40] ^= 1  # within an image, where no header notices
    place(shards, 0).write_bytes(flipped)
    cut = place(shards, 1).read_bytes()[:5000]
    place(shards, 1).write_bytes(cut)
    place(shards, 2).unlink()
    problems = found(shards, workers=2)
    assert [(name, what.split(":")[0].split(",")[0]) for name, what in problems] == [
        ("train-000000.tar", "its bytes have changed"),
        ("train-000001.tar", "it has 5000 bytes"),
        ("train-000001.tar", problems[2][1].split(":")[0]),
        ("train-000002.tar", "the shard is missing"),
    ]
    assert "truncated at byte" in problems[2][1]


def test_a_damaged_header(shards):
    data = bytearray(place(shards, 0).read_bytes())
    data[150] ^= 1
    place(shards, 0).write_bytes(data)
    whats = [what for name, what in found(shards) if name == "train-000000.tar"]
    assert any(what.startswith("its bytes have changed") for what in whats)
    assert any("the tar is damaged" in what for what in whats)


def test_a_wrong_count(shards):
    path = Path(shards.root) / "dataset.json"
    content = json.loads(path.read_text())
    content["shardlist"][1]["nsamples"] = 5
    content["ccscale"]["splits"]["train"]["samples"] = 13
    path.write_text(json.dumps(content))
    assert found(shards) == [("train-000001.tar", "it holds 4 samples, and 5 in the manifest")]


def test_a_wrong_number_of_labels(shards):
    replace(shards, labelled={"train": 11, "test": 0}).save()
    assert found(shards) == [("dataset.json", "the split train has 12 labels, and 11 in the manifest")]


def test_a_stale_index_and_none_at_all(shards):
    beside = Path(shards.root) / "train-000001.index.parquet"
    index = read_index(shards, shards.shards[1])
    index.labels[0] = 1 - index.labels[0]
    write_index(str(beside), index)
    assert found(shards) == [("train-000001.tar", "its index does not agree with the tar: delete the index")]
    beside.write_bytes(b"x")
    assert [what[:26] for _, what in found(shards)] == ["its index cannot be read: "]
    beside.unlink()
    assert found(shards) == []


def test_labels_beyond_the_classes(shards):
    changed = rewrite(
        shards, 0, [(f"n{i}.{e}", d) for i in range(4) for e, d in (("png", png(i)), ("cls", b"%d" % i))]
    )
    assert found(changed) == [
        ("train-000000.tar", "2 labels are beyond the 2 classes, as the label 2 of 'n2'")
    ]


def test_keys_in_two_shards(shards):
    keys = read_index(shards, shards.shards[2]).keys[:2]
    members = [
        (f"{key}.{e}", d) for key in ["new", *keys, "newer"] for e, d in (("png", png(1)), ("cls", b"0"))
    ]
    changed = rewrite(shards, 0, members)
    ((name, what),) = found(changed)
    assert name == "train-000002.tar"
    assert what == f"2 keys are in other shards too, as {keys[0]!r} in train-000000.tar"


def test_keys_twice_in_a_shard(shards):
    """The manifest's own hash agrees with the tar, so that only reading it can find this."""
    members = [("a.png", png(1)), ("b.png", png(2)), ("a.png", png(3)), ("c.png", png(4))]
    with tarfile.open(place(shards, 3), "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    data = place(shards, 3).read_bytes()
    last = replace(shards.shards[3], filesize=len(data), sha256=hashlib.sha256(data).hexdigest())
    replace(shards, shards=(*shards.shards[:3], last)).save()
    assert found(shards) == [("test-000000.tar", "two samples have the key 'a'")]


def test_a_tar_that_the_manifest_does_not_list(shards):
    (Path(shards.root) / "train-000009.tar").write_bytes(place(shards, 0).read_bytes())
    assert found(shards) == [("train-000009.tar", "the manifest does not list it")]


def test_through_fsspec(shards):
    memory = fsspec.filesystem("memory")
    for path in Path(shards.root).iterdir():
        memory.pipe(f"/verify-test/{path.name}", path.read_bytes())
    away = replace(shards, root="memory://verify-test")
    assert found(away) == []
    assert info("memory://verify-test")["samples"] == 14
    memory.pipe("/verify-test/train-000000.tar", place(shards, 1).read_bytes())
    assert {name for name, _ in found(away)} == {"train-000000.tar", "train-000001.tar"}


def test_no_manifest(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        verify(tmp_path / "nowhere")


def test_info(shards):
    facts = info(shards.root)
    size = sum(shard.filesize for shard in shards.shards)
    assert facts["splits"]["train"] == {
        "samples": 12, "shards": 3, "bytes": sum(s.filesize for s in shards.select(["train"])), "labelled": 12
    }  # fmt: skip
    assert [facts[name] for name in ("samples", "shards", "bytes", "labelled")] == [14, 4, size, 12]
    assert facts["classes"] == [
        {"label": 0, "name": "even", "id": "0", "samples": {"train": 6, "test": 0}},
        {"label": 1, "name": "odd", "id": "1", "samples": {"train": 6, "test": 0}},
    ]
    assert facts["extensions"] == {"png": 14}


def test_a_remote_shard_is_read_once(tmp_path):
    """Labels and headers are looked at while the bytes go by; images are larger than what is read at once."""
    rng = np.random.default_rng(0)
    train = []
    for i in range(12):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (400, 500, 3), dtype=np.uint8)).save(file, "PNG")
        train.append(Item(f"t{i}", Bytes(file.getvalue()), i % 2, f"t{i}"))
    source = Source("x", "digits", ("even", "odd"), ("0", "1"), {"train": train})
    manifest = make_shards(source, tmp_path / "x", shard_samples=6, workers=1, progress=False)
    with ShardServer(tmp_path / "x") as server:
        assert verify(server.url, workers=1).problems == []
        assert min(shard.filesize for shard in manifest.shards) > 3 * 2**20
        for shard in manifest.shards:
            assert server.sent[shard.url] == shard.filesize
        flipped = bytearray(place(manifest, 1).read_bytes())
        flipped[len(flipped) // 2] ^= 1
        place(manifest, 1).write_bytes(flipped)
        place(manifest, 0).unlink()
        problems = verify(server.url, workers=1).problems
    assert [problem.shard for problem in problems] == ["train-000000.tar", "train-000001.tar"]
    assert problems[0].what == "the shard is missing"
    assert problems[1].what.startswith("its bytes have changed")


def test_an_outage_is_no_damage(shards):
    with ShardServer(Path(shards.root)) as server:
        server.fail(r"train-000001\.tar", "503", times=2)
        assert verify(server.url, workers=1).problems == []
        assert server.requests["train-000001.tar"] > 2


def test_tars_in_sub_folders(shards):
    """A tar that nobody listed is found there too, but another data set's is none of this one's business."""
    data = place(shards, 0).read_bytes()
    for folder in ("more", "other"):
        (Path(shards.root) / folder).mkdir()
        (Path(shards.root) / folder / "a.tar").write_bytes(data)
    (Path(shards.root) / "other/dataset.json").write_text("{}")
    assert found(shards) == [("more/a.tar", "the manifest does not list it")]


def test_progress_counts_what_is_read(shards, capsys):
    verify(shards.root, workers=1, progress=True)
    assert "verifying: 4 of 4 MiB" in capsys.readouterr().err
