"""Shards hold the source's images and labels, with the same bytes however they are made."""

import csv
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from harness.pictures import contents, make, picture, samples, save
from PIL import Image

from ccscale import atomic, pool
from ccscale.data.conversion.layout import lay_out_shards
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.contents import Bytes
from ccscale.data.sources.digits import digits
from ccscale.data.sources.folders import folder
from ccscale.data.sources.items import Item, Source
from ccscale.errors import InputError


def test_round_trip_of_bytes_and_labels(pets, tmp_path):
    source = folder(pets)
    manifest = make(source, tmp_path / "out", shard_samples=8)
    assert Manifest.load(tmp_path / "out") == manifest
    assert manifest.splits == {"test": (5, 1), "train": (20, 3), "val": (7, 1)}
    assert manifest.labelled == {"test": 0, "train": 20, "val": 7}
    assert (manifest.classes, manifest.name) == (("cat", "dog", "eel"), "pets")
    assert [shard.nsamples for shard in manifest.select(["train"])] == [7, 7, 6]
    expected = {
        item.key: (
            split,
            item.content.path.rpartition(".")[2].lower().replace("jpeg", "jpg"),
            Path(item.content.path).read_bytes(),
            -1 if item.label is None else item.label,
        )
        for split, items in source.splits.items()
        for item in items
    }
    assert samples(manifest) == expected
    assert sorted(contents(tmp_path / "out")) == sorted(
        ["dataset.json"]
        + [name for shard in manifest.shards for name in (shard.url, shard.url[:-4] + ".index.parquet")]
    )


def test_a_few_images_start_no_processes(pets, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "ProcessPoolExecutor", None)
    manifest = make_shards(folder(pets), tmp_path / "out", progress=False)
    assert {split: samples for split, (samples, _) in manifest.splits.items()} == {
        "test": 5,
        "train": 20,
        "val": 7,
    }


def test_members_are_plain_and_in_order(pets, tmp_path):
    manifest = make(folder(pets), tmp_path / "out")
    with tarfile.open(manifest.locate(manifest.select(["val"])[0])) as tar:
        members = tar.getmembers()
        facts = json.load(tar.extractfile(members[2]))
    key = members[0].name.rpartition(".")[0]
    assert [member.name.rpartition(".")[2] for member in members[1:3]] == ["cls", "json"]
    assert {member.name.rpartition(".")[0] for member in members[:3]} == {key}
    assert facts == {"origin": members[0].name, "split": "val"}
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_the_same_bytes_for_any_workers_and_runs(pets, tmp_path):
    (pets / "train/cat/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    options = {"shard_samples": 6, "resize": 8}
    make(folder(pets), tmp_path / "one", **options)
    make(folder(pets), tmp_path / "two", workers=2, **options)
    os.utime(pets / "train/cat/00.jpg", (1, 1))
    make(folder(pets), tmp_path / "again", **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "again")
    assert "rejected.csv" in contents(tmp_path / "one")


def test_the_seed_orders_the_samples(tmp_path):
    source = digits()
    orders = {
        seed: [item.key for layout in lay_out_shards(source, seed) for item in layout.items]
        for seed in (0, 1)
    }
    keys = sorted(orders[0])
    assert keys == sorted(orders[1]) == sorted(item.key for item in source.splits["train"])
    assert orders[0] != orders[1]
    assert keys not in orders.values()


@pytest.mark.parametrize(
    ("number", "affordable", "shard_samples", "sizes"),
    [
        (20, 10_000, None, [20]),
        (1_797, 10_000, None, [450, 449, 449, 449]),
        (100_000, 20_000, None, [10_000] * 10),
        (60, 7, None, [7, 7, 7, 7, 7, 7, 6, 6, 6]),
        (60, 7, 25, [20, 20, 20]),
        (3, 10_000, 1, [1, 1, 1]),
        (0, 10_000, None, []),
    ],
)
def test_sizes_of_shards(number, affordable, shard_samples, sizes):
    items = [Item(str(i), Bytes(b""), None, str(i)) for i in range(number)]
    layouts = lay_out_shards(Source("x", "x", (), (), {"train": items}), 0, shard_samples, affordable)
    assert [len(layout.items) for layout in layouts] == sizes
    assert [layout.name for layout in layouts] == [f"train-{i:06d}.tar" for i in range(len(sizes))]
    assert sorted(item.key for layout in layouts for item in layout.items) == sorted(
        item.key for item in items
    )


def test_shard_bytes_bounds_the_shards(pets, tmp_path):
    manifest = make(folder(pets), tmp_path / "out", shard_bytes=20_000)
    largest = max(shard.filesize for shard in manifest.shards)
    assert 10_000 < largest < 35_000  # judged from the mean, and a tar ends with up to 10 KB of zeros
    assert len(manifest.shards) > 3


def test_webdataset_reads_the_shards(tmp_path):
    source = digits()
    manifest = make(source, tmp_path / "out", shard_samples=500)
    urls = [manifest.locate(shard) for shard in manifest.shards]
    read = {sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False)}
    assert len(read) == 1797
    for item in source.splits["train"]:
        sample = read[item.key]
        assert sample["png"] == item.content.data
        assert int(sample["cls"]) == item.label
        assert json.loads(sample["json"]) == {"origin": item.origin, "split": "train"}


def test_the_content_tells_the_format_and_others_become_png(tmp_path):
    root = tmp_path / "in"
    png = save(root / "png_named.jpg", format="PNG")
    bmp, cmyk = picture(3), picture(4, mode="CMYK")
    save(root / "b.bmp", bmp)
    save(root / "c.tif", cmyk)
    Image.fromarray(np.full((5, 5), 0.5, np.float32)).save(root / "f.tif")
    found = samples(make(folder(root), tmp_path / "out"))
    assert found["png_named"][1:3] == ("png", png)
    assert found["b"][1] == found["c"][1] == "png"
    for key, image in (("b", bmp), ("c", cmyk.convert("RGB"))):
        stored = Image.open(io.BytesIO(found[key][2]))
        assert stored.mode == "RGB"
        assert stored.tobytes() == image.tobytes()
    assert "f" not in found
    assert "its pixels are floating-point numbers" in (tmp_path / "out/rejected.csv").read_text()


def test_resize_reduces_the_short_side_and_never_enlarges(tmp_path):
    root = tmp_path / "in"
    save(root / "wide.jpg", picture(1, (60, 30)), quality=95)
    save(root / "tall.png", picture(2, (20, 50), "RGBA"))
    save(root / "palette.png", picture(3, (40, 40)).quantize(16))
    small = save(root / "small.jpg", picture(3, (100, 16)))
    found = samples(make(folder(root), tmp_path / "out", resize=16))
    opened = {key: Image.open(io.BytesIO(data)) for key, (_, _, data, _) in found.items()}
    assert {key: (image.format, image.size, image.mode) for key, image in opened.items()} == {
        "wide": ("JPEG", (32, 16), "RGB"),
        "tall": ("PNG", (16, 40), "RGBA"),
        "palette": ("PNG", (16, 16), "RGB"),
        "small": ("JPEG", (100, 16), "RGB"),
    }
    assert found["small"][2] == small
    reduced = Image.open(root / "tall.png").resize((16, 40), Image.Resampling.BICUBIC)
    assert opened["tall"].tobytes() == reduced.tobytes()


@pytest.mark.parametrize("format", ["jpg", "png", "webp"])
def test_format_is_for_all_images(tmp_path, format):
    root = tmp_path / "in"
    originals = {
        "jpg": save(root / "jpg.jpg"),
        "png": save(root / "png.png", picture(1, mode="RGBA")),
        "webp": save(root / "webp.webp"),
    }
    save(root / "grey.png", picture(1, mode="L"))
    found = samples(make(folder(root), tmp_path / format, format=format))
    assert {ext for _, ext, _, _ in found.values()} == {format}
    assert found[format][2] == originals[format]  # what has the format already is kept
    names = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
    assert {Image.open(io.BytesIO(data)).format for _, _, data, _ in found.values()} == {names[format]}
    assert Image.open(io.BytesIO(found["png"][2])).mode == ("RGB" if format == "jpg" else "RGBA")


def test_quality_matters(tmp_path):
    save(tmp_path / "in/a.png", picture(0, (64, 64)))
    sizes = [
        len(samples(make(folder(tmp_path / "in"), tmp_path / str(q), format="jpg", quality=q))["a"][2])
        for q in (10, 95)
    ]
    assert sizes[0] * 3 < sizes[1]


def test_images_that_cannot_be_read_are_listed_and_left_out(tmp_path):
    root = tmp_path / "in"
    good = save(root / "good.jpg", picture(0, (64, 64)))
    (root / "cut.jpg").write_bytes(good[: len(good) // 2])
    (root / "empty.png").touch()
    (root / "text, with a comma.gif").write_text("no image")
    (root / "gone.webp").symlink_to(tmp_path / "nowhere")
    manifest = make(folder(root), tmp_path / "out")
    assert list(samples(manifest)) == ["good"]
    assert manifest.made_by["rejected"] == 4
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["key"], row["origin"]) for row in rows] == [
        ("train", "cut", "cut.jpg"),
        ("train", "empty", "empty.png"),
        ("train", "gone", "gone.webp"),
        ("train", "text, with a comma", "text, with a comma.gif"),
    ]
    reasons = [row["reason"] for row in rows]
    assert "truncated" in reasons[0]
    assert reasons[1:] == [
        "it has no bytes",
        "the file cannot be read: No such file or directory",
        "it is not an image in a known format (JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF, PPM, HEIC, JPEG XL, DICOM)",
    ]


def test_a_shard_of_which_nothing_is_left_is_left_out(tmp_path):
    save(tmp_path / "in/good.jpg")
    (tmp_path / "in/bad.jpg").write_bytes(b"bad")
    manifest = make(folder(tmp_path / "in"), tmp_path / "out", shard_samples=1)
    assert manifest.splits == {"train": (1, 1)}
    assert len(list((tmp_path / "out").glob("*.tar"))) == 1
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 1


def test_no_readable_image_at_all(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.jpg").write_bytes(b"bad")
    with pytest.raises(
        InputError, match=r"none of the 1 images of in .*bad\.jpg: it is not an image.*check the source"
    ):
        make(folder(tmp_path / "in"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_too_long_for_ustar_and_not_ascii(tmp_path):
    deep = "/".join(["d" * 80] * 3)
    long, accents = f"{deep}/{'x' * 120}", "Été/größe"
    for key in (long, accents):
        save(tmp_path / f"in/{key}.png")
    manifest = make(folder(tmp_path / "in"), tmp_path / "out")
    assert set(samples(manifest)) == {long, accents}
    with tarfile.open(manifest.locate(manifest.shards[0])) as tar:
        assert {name.rpartition(".")[0] for name in tar.getnames()} == {long, accents}
    urls = [manifest.locate(manifest.shards[0])]
    assert {s["__key__"] for s in webdataset.WebDataset(urls, shardshuffle=False)} == {long, accents}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_leaves_no_manifest_and_no_partial_shard(pets, tmp_path, workers):
    """A write that fails half-way: the second shard's temporary name is taken by a folder."""
    out = tmp_path / "out"
    (out / "train-000001.tar.part").mkdir(parents=True)
    with pytest.raises(InputError, match=r"train-000001\.tar\.part cannot be written to \(Is a directory\)"):
        make(folder(pets), out, shard_samples=5, workers=workers)
    (out / "train-000001.tar.part").rmdir()
    assert not (out / "dataset.json").exists()
    assert not list(out.glob("*.part"))
    assert not (out / "train-000001.tar").exists()
    for path in out.glob("*.tar"):  # what is there under its name is whole
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) >= 5
    # The same call again finishes the work; one with another layout does not mix its shards with these.
    if list(out.glob("*.tar")):
        with pytest.raises(InputError, match="unfinished shards of another source or other options"):
            make(folder(pets), out, shard_samples=6)
    make(folder(pets), out, shard_samples=5)
    make(folder(pets), tmp_path / "fresh", shard_samples=5)
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_partial_file_is_removed_on_any_error(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"before")

    def write_half() -> None:
        with atomic.replacing(str(path)) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert contents(tmp_path) == {"a.tar": b"before"}


def test_refuses_a_folder_that_is_in_use(pets, tmp_path):
    source = folder(pets)
    make(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    for other in ({"seed": 1}, {"resize": 8}, {"shard_samples": 9}, {"shard_bytes": 2**20}, {"dedup": True}):
        with pytest.raises(
            InputError, match="already contains a data set: choose another folder, or delete it"
        ):
            make(source, tmp_path / "out", **other)
    with pytest.raises(InputError, match="already contains a data set"):
        make(folder(pets, labels=False), tmp_path / "out")
    assert contents(tmp_path / "out") == before
    for inside in (pets, tmp_path):
        with pytest.raises(InputError, match="contains the images themselves"):
            make(source, inside)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/train-000000.tar").write_bytes(b"precious")
    with pytest.raises(InputError, match="holds tars of others"):
        make(source, tmp_path / "foreign")
    assert contents(tmp_path / "foreign") == {"train-000000.tar": b"precious"}
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: give a folder"):
        make(source, tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot be written to .* choose another"):
        make(source, tmp_path / "file/below")
    with pytest.raises(InputError, match=r"local folder, not to s3://b/x"):
        make(source, "s3://b/x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 0}, "resize is 0"),
        ({"format": "jgp"}, "no format 'jgp'; did you mean 'jpg'"),
        ({"quality": 101}, "quality is 101"),
        ({"seed": -1}, "seed is -1"),
        ({"shard_samples": 0}, "shard_samples is 0"),
        ({"shard_bytes": 0}, "shard_bytes is 0"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_refuses_options(pets, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        make(folder(pets), tmp_path / "out", **options)
    assert not (tmp_path / "out/dataset.json").exists()
