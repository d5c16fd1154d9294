"""The index finds each image's bytes in tars of ours and of others, and names what is wrong with a damaged one."""

import io
import pickle
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.index import SCHEMA, ShardIndex, from_parquet, read_index, scan_tar, write_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard


def tar_of(*members: tuple[str, bytes], **options) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def scan(data: bytes) -> ShardIndex:
    return scan_tar(io.BytesIO(data), "x.tar")


def images(data: bytes, index: ShardIndex) -> list[bytes]:
    return [data[offset : offset + size] for offset, size in zip(index.offsets, index.sizes, strict=True)]


@pytest.mark.parametrize(
    "options",
    [{"format": tarfile.USTAR_FORMAT}, {"format": tarfile.PAX_FORMAT}, {"format": tarfile.GNU_FORMAT}],
)
def test_finds_images_by_webdatasets_rule(options):
    long = "d" * 90 + "/" + "é" * 30
    data = tar_of(
        ("folder.d/", b""),
        ("folder.d/a.seg.png", b"a mask, not the image"),
        ("folder.d/a.jpg", b"first"),
        ("folder.d/a.cls", b" 7\n"),
        ("folder.d/._a.jpg", b"what macOS adds"),
        ("b.JPEG", b"second"),
        ("b.png", b"less preferred"),
        ("README", b"no dot"),
        (f"{long}.webp", b""),
        (f"{long}.cls", b"-1"),
        **options,
    )
    index = scan(data)
    assert index.keys == ["folder.d/a", "b", long]
    assert index.exts == ["jpg", "jpg", "webp"]
    assert images(data, index) == [b"first", b"second", b""]
    assert index.labels.tolist() == [7, -1, -1]
    assert index.labels.dtype == index.offsets.dtype == index.sizes.dtype == np.int64
    assert len(index) == 3


def test_an_empty_tar_has_no_samples():
    assert len(scan(tar_of())) == 0


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3")], "two samples have the key 'a'"),
        ([("a.jpg", b"1"), ("a.jpg", b"3")], "'a.jpg' is there twice"),
        ([("a.jpg", b"1"), ("a.cls", b"cat")], "of the sample 'a', the label 'cat' is not a number"),
        ([("a.jpg", b"1"), ("a.cls", b"-2")], "of the sample 'a', the label '-2' is not from 0 to 1,048,575"),
        ([("a.jpg", b"1"), ("a.cls", b"1048576")], "of the sample 'a', the label '1048576' is not from 0"),
        ([("a.jpg", b"1"), ("a.cls", b"0.5")], "of the sample 'a', the label '0.5' is not an integer"),
    ],
)
def test_refuses_samples(members, what):
    with pytest.raises(ShardError, match=f"^x.tar: .*{what}"):
        scan(tar_of(*members))


def test_a_tar_that_is_missing(tmp_path):
    with pytest.raises(ShardError, match=r"gone\.tar: there is no such file"):
        scan_tar(tmp_path / "gone.tar")


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(ShardError("a.tar", "is gone")))
    assert (str(error), error.shard, error.what) == ("a.tar: is gone", "a.tar", "is gone")


DATA = tar_of(("a.jpg", b"one"), ("a.cls", b"5"), ("b.png", b"two!"))


def manifest_for(root: str, nsamples: int = 2) -> tuple[Manifest, Shard]:
    shard = Shard("train-000000.tar", nsamples, len(DATA), "0" * 64, "train")
    return Manifest(root, "x", (shard,), (), (), {"train": 1}, {}), shard


def test_parquet_round_trip(tmp_path):
    path = tmp_path / "train-000000.index.parquet"
    index = scan(DATA)
    write_index(str(path), index)
    first = path.read_bytes()
    write_index(str(path), index)
    assert path.read_bytes() == first
    table = pq.read_table(path)
    assert {field.name: str(field.type) for field in table.schema} == {
        "key": "string", "ext": "string", "offset": "int64", "size": "int64", "label": "int32", "origin": "string"
    }  # fmt: skip
    assert table["label"].to_pylist() == [5, None]
    # The tar is not there: what is read comes from the index.
    found = read_index(*manifest_for(str(tmp_path)))
    assert found.same_as(index)
    assert images(DATA, found) == [b"one", b"two!"]
    assert found.labels.tolist() == [5, -1]


@pytest.mark.parametrize("field", ["keys", "exts", "offsets", "sizes", "labels", "origins"])
def test_same_as_sees_every_column(field):
    one, other = scan(DATA), scan(DATA)
    assert one.same_as(other)
    getattr(other, field)[1] = "elsewhere" if field == "origins" else getattr(other, field)[0]
    assert not one.same_as(other)


@pytest.mark.parametrize(
    ("facts", "origin"),
    [
        (b'{"split": "train", "origin": "a/b.jpg"}', "a/b.jpg"),
        (b'{"url": "https://h/1.jpg", "key": "1"}', "https://h/1.jpg"),  # as img2dataset writes it
        (b'{"url": "https://h/1.jpg", "origin": "1.jpg"}', "1.jpg"),
        ('{"origin": "über"}'.encode(), "über"),
        (b'{"origin": ""}', None),
        (b'{"origin": 7}', None),
        (b'{"origin": "\\ud800"}', None),
        (b"[1, 2]", None),
        (b"no json", None),
        (b"\xff", None),
        (b"[" * 60_000, None),
        (b'{"origin": "' + b"x" * 2**16 + b'"}', None),
    ],
)
def test_the_origin_is_what_a_samples_json_says(tmp_path, facts, origin):
    index = scan(tar_of(("a.jpg", b"1"), ("a.json", facts), ("b.jpg", b"2")))
    assert index.origins == [origin, None]
    write_index(str(tmp_path / "i"), index)
    assert from_parquet((tmp_path / "i").read_bytes()).origins == [origin, None]


def test_an_index_of_an_earlier_release_has_no_origins(tmp_path):
    path = tmp_path / "i"
    now = scan(DATA)
    write_index(str(path), now)
    pq.write_table(pq.read_table(path).drop_columns("origin"), path)
    old = from_parquet(path.read_bytes())
    assert old.origins is None
    assert old.same_as(now)
    assert now.same_as(old)
    old.keys[0] = "x"
    assert not now.same_as(old)
    write_index(str(path), old)  # and does not get any
    assert from_parquet(path.read_bytes()).origins is None


def test_reads_without_an_index_and_through_urls(tmp_path):
    (tmp_path / "train-000000.tar").write_bytes(DATA)
    assert read_index(*manifest_for(str(tmp_path))).same_as(scan(DATA))
    memory = fsspec.filesystem("memory")
    memory.pipe("/index-test/train-000000.tar", DATA)
    assert read_index(*manifest_for("memory://index-test")).same_as(scan(DATA))
    memory.rm("/index-test/train-000000.tar")
    write_index(str(tmp_path / "i"), scan(DATA))
    memory.pipe("/index-test/train-000000.index.parquet", (tmp_path / "i").read_bytes())
    assert read_index(*manifest_for("memory://index-test")).same_as(scan(DATA))


def test_an_index_whose_rows_are_not_there(tmp_path):
    path = tmp_path / "train-000000.index.parquet"
    empty = io.BytesIO()
    pq.write_table(pa.table([[]] * len(SCHEMA), schema=SCHEMA), empty)
    none, two = b"\x16\x00\x19", b"\x16\x04\x19"  # the footer's number of rows, and the list of row groups
    assert empty.getvalue().count(none) == 1
    path.write_bytes(empty.getvalue().replace(none, two))
    with pytest.raises(
        ShardError, match=r"cannot be read \(it says that it has 2 rows, and has 0\): delete the index"
    ):
        read_index(*manifest_for(str(tmp_path)))


def test_index_must_agree_with_the_manifest(tmp_path):
    path = tmp_path / "train-000000.index.parquet"
    write_index(str(path), scan(DATA))
    with pytest.raises(
        ShardError, match=r"train-000000\.tar: it has 2 samples, but 3 in the manifest; .*verify"
    ):
        read_index(*manifest_for(str(tmp_path), nsamples=3))
    beyond = scan(DATA)
    beyond.offsets[1] = len(DATA)
    write_index(str(path), beyond)
    with pytest.raises(ShardError, match="points past its end"):
        read_index(*manifest_for(str(tmp_path)))
    for offset, size in ((-1, 3), (0, -1), (2**62, 2**62)):
        beyond.offsets[1], beyond.sizes[1] = offset, size
        write_index(str(path), beyond)
        with pytest.raises(ShardError, match="points past its end"):
            read_index(*manifest_for(str(tmp_path)))
    good = scan(DATA)
    write_index(str(path), good)
    table = pq.read_table(path)
    gaps = table.set_column(2, table.schema.field("offset"), pa.array([0, None], pa.int64()))
    pq.write_table(gaps, path)
    with pytest.raises(ShardError, match="has gaps: delete the index"):
        read_index(*manifest_for(str(tmp_path)))
    path.write_bytes(b"no parquet")
    with pytest.raises(ShardError, match=r"cannot be read .*delete the index"):
        read_index(*manifest_for(str(tmp_path)))
