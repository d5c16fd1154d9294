"""Shards over HTTP and from S3: the batches are those from the disk, whatever the server does, or it is named."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from harness.servers import ShardServer, s3_bucket

from ccscale.config import Views
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule
from ccscale.data.pairs import PairBatch, pair_batches
from ccscale.data.reader import SampleReader
from ccscale.data.remote.access import Access
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.whole_images import whole_batches
from ccscale.errors import Fault, InputError

VIEWS = Views(size=12, blur=0.5, blur_kernel=3)
BRIEF = Access(retry_seconds=10.0)
PATIENT = Access(retry_seconds=60.0)
ENDLESS = float("inf")


@pytest.fixture(scope="module")
def bare_server(shards: Path) -> Iterator[ShardServer]:
    with ShardServer(shards) as server:
        yield server


@pytest.fixture
def server(bare_server: ShardServer) -> ShardServer:
    """The shards over HTTP, counts at 0."""
    bare_server.mend()
    bare_server.requests.clear()
    bare_server.sent.clear()
    return bare_server


@pytest.fixture(scope="module")
def bucket(shards: Path) -> Iterator[str]:
    with s3_bucket("pictures", shards) as url:
        yield url


def schedule_of(manifest: Manifest, block: int = 7, piece: int | None = 4, lanes: int = 6) -> PhasedSchedule:
    sizes = tuple(shard.nsamples for shard in manifest.shards)
    return PhasedSchedule.single(Schedule(sizes, 5, 24, lanes, piece, block))


def read(
    manifest: Manifest, access: Access | None = None, workers: int = 0, start: int = 0, stop: int = 9
) -> list[PairBatch]:
    schedule = schedule_of(manifest)
    return list(
        pair_batches(manifest, ["train"], schedule, VIEWS, start, stop, workers=workers, access=access)
    )


def assert_equal(found: list[PairBatch], expected: list[PairBatch]) -> None:
    assert [(batch.step, batch.digest, batch.bad) for batch in found] == [
        (batch.step, batch.digest, batch.bad) for batch in expected
    ]
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.images, b.images)


@pytest.fixture(scope="module")
def local(manifest: Manifest) -> list[PairBatch]:
    return read(manifest)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
@pytest.mark.parametrize("place", ["http", "faulty http", "s3", "memory"])
def test_batches_are_those_from_the_disk(
    place: str,
    cached: bool,
    workers: int,
    local: list[PairBatch],
    shards: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    access = replace(PATIENT, cache=str(tmp_path / "cache") if cached else None)
    if place == "s3":
        root = request.getfixturevalue("bucket")
    elif place == "memory":
        root = "memory://shards"  # a file system that knows nothing of asyncio
        for path in shards.iterdir():
            fsspec.filesystem("memory").pipe(f"/shards/{path.name}", path.read_bytes())
    else:
        server = request.getfixturevalue("server")
        root = server.url
        if place == "faulty http":
            server.fail_at_random(workers, 0.2, ("503", "429", "cut", "short", "reset", "elsewhere"))
    remote = Manifest.load(root)
    # Workers are forked from a process that has used the file system already.
    assert_equal(read(remote, access), local)
    assert_equal(read(remote, access, workers), local)
    if place == "http" and cached:
        before = server.requests.total()
        assert_equal(read(remote, access, workers), local)
        assert server.requests.total() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_the_same_images(server: ShardServer, manifest: Manifest, workers: int) -> None:
    access = replace(BRIEF, block_bytes=2**16)  # several blocks a batch
    remote = Manifest.load(server.url)
    found = list(whole_batches(remote, ["train"], 12, 64, workers=workers, access=access))
    expected = list(whole_batches(manifest, ["train"], 12, 64))
    assert len(found) == 3
    for a, b in zip(found, expected, strict=True):
        assert a.keys == b.keys
        assert a.labels.tolist() == b.labels.tolist()
        assert np.array_equal(a.images, b.images)
    assert server.requests.total() < 40  # for 150 images


def test_bad_images_are_replaced_as_on_the_disk(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    for shard in manifest.shards:
        offset = int(read_index(manifest, shard).offsets[3])
        with open(manifest.locate(shard), "r+b") as file:
            file.seek(offset)
            file.write(bytes(40))
    expected = read(manifest)
    assert sum(len(batch.bad) for batch in expected) >= 3
    with ShardServer(copy) as server:
        assert_equal(read(Manifest.load(server.url), BRIEF), expected)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *(
            (r"train-000001\.tar", fault)
            for fault in ("503", "429", "stall", "cut", "short", "reset", "elsewhere")
        ),
        *((r"train-000001\.index", fault) for fault in ("503", "stall", "cut", "reset")),
        *(("dataset", fault) for fault in ("503", "stall", "cut", "reset")),
    ],
)
def test_a_failure_is_tried_again(server: ShardServer, local: list[PairBatch], name: str, fault: str) -> None:
    server.fail(name, fault, times=2)
    remote = Manifest.load(server.url, retry_seconds=4.0)
    # Four tries of a second fit into the time, were each of them a stall.
    assert_equal(read(remote, Access(retry_seconds=4.0), stop=3), local[:3])
    assert max(count for file, count in server.requests.items() if "dataset" in file or "0001" in file) >= 3


@pytest.mark.parametrize("workers", [0, 2])
def test_what_stays_unreachable_is_named(server: ShardServer, workers: int) -> None:
    remote = Manifest.load(server.url)
    server.fail(r"000003\.tar", "503", ENDLESS)
    with pytest.raises(
        Fault, match=rf"^{server.url}/train-000003\.tar cannot be read: the server answers 503 "
    ):
        read(remote, Access(retry_seconds=2), workers)  # the other shards are to answer in that time
    assert server.requests["train-000003.tar"] >= 3
    server.mend()
    server.fail(r"000003\.tar", "stall", ENDLESS)
    with pytest.raises(
        Fault, match=r"000003\.tar cannot be read: the server sends nothing \(\d+ tries in 1 sec"
    ):
        read(remote, Access(retry_seconds=1), workers)


def test_a_retry_is_said_once_in_a_while(
    server: ShardServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccscale.data.remote.retry._told", -1e9)
    server.fail(r"\.tar", "503", 6)
    read(Manifest.load(server.url), PATIENT, stop=1)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{server.url}/train-00000")
    assert line.endswith(".tar: the server answers 503; it is tried again for up to 60 s")


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("404", "there is no such file"),
        ("403", "access to it is refused"),
        ("whole", "the server does not support HTTP range requests"),
    ],
)
def test_what_no_other_try_changes_is_told_at_once(server: ShardServer, fault: str, what: str) -> None:
    remote = Manifest.load(server.url)
    reader = SampleReader(remote, ["train"], PATIENT)
    reader.key(40)  # the index is there
    server.fail(r"000001\.tar", fault, ENDLESS)
    with pytest.raises(ShardError, match=rf"^{server.url}/train-000001\.tar: {what}"):
        reader[40]
    assert server.requests["train-000001.tar"] == 1
    assert server.sent["train-000001.tar"] < 2**20


def test_a_shard_that_was_replaced_is_told(shards: Path, tmp_path: Path, bucket: str) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    with ShardServer(copy) as server:
        remote = Manifest.load(server.url)
        reader = SampleReader(remote, ["train"], PATIENT)
        expected = reader[40]
        path = copy / "train-000001.tar"
        size = path.stat().st_size
        for new in (size + 512, size - 512, 700):  # longer, shorter, ends before the sample
            data = path.read_bytes()[:new]
            path.write_bytes(data + bytes(new - len(data)))
            with pytest.raises(
                ShardError, match=f"it has {new} bytes, but {size} in the manifest: it was replaced"
            ):
                reader[40]
        shutil.copy(shards / path.name, path)
        assert reader[40] == expected
    remote = Manifest.load(bucket)
    changed = replace(remote.shards[1], filesize=size + 1)
    reader = SampleReader(replace(remote, shards=(remote.shards[0], changed)), ["train"], PATIENT)
    with pytest.raises(ShardError, match=f"it has {size} bytes, but {size + 1} in the manifest"):
        reader[40]


def test_without_an_index_the_tar_is_scanned_once_for_all(
    shards: Path, tmp_path: Path, local: list[PairBatch]
) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards", ignore=shutil.ignore_patterns("*.parquet"))
    access = replace(BRIEF, cache=str(tmp_path / "cache"))
    with ShardServer(copy) as server:
        server.fail(r"\.tar", "cut", 2)
        remote = Manifest.load(server.url)
        assert_equal(read(remote, BRIEF), local)
        assert_equal(read(remote, access), local)
        server.requests.clear()
        assert_equal(read(remote, access, workers=2), local)
        assert server.requests.total() == 0


def test_an_index_that_cannot_be_read_is_told(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    (copy / "train-000000.index.parquet").write_bytes(b"no parquet")
    with ShardServer(copy) as server:
        reader = SampleReader(Manifest.load(server.url), ["train"], BRIEF)
        with pytest.raises(
            ShardError, match=r"its index .*000000\.index\.parquet cannot be read .*delete the index"
        ):
            reader[0]
        server.fail("000001", "403", ENDLESS)  # for the index alone it would mean that there is none
        with pytest.raises(ShardError, match=r"000001\.tar: access to it is refused"):
            reader[40]


@pytest.mark.parametrize(("block", "start"), [(12, 0), (12, 2), (12, 4), (7, 3), (7, 1), (24, 5)])
def test_a_resume_reads_at_most_a_block_a_lane_before_its_first_batch(
    server: ShardServer, manifest: Manifest, block: int, start: int
) -> None:
    """Bytes are those that the server sent; a lane gives 4 samples to a batch and reads 24 in an epoch."""
    remote, schedule = Manifest.load(server.url), schedule_of(manifest, block)
    reader = SampleReader(manifest, ["train"])
    whole_blocks = 0
    for lane in range(6):
        first = start * 4 // block * block
        samples = schedule.order(0).lane(lane, first, min(first + block, 24))
        whole_blocks += sum(len(reader[int(sample)].data) for sample in samples)
    batches = pair_batches(remote, ["train"], schedule, VIEWS, start, 9, access=BRIEF)
    assert next(batches).step == start
    sent = sum(count for name, count in server.sent.items() if name.endswith(".tar"))
    # Between neighbours in a tar lie the headers and labels of one: at most 2.5 KiB, which are read along.
    assert 0 < sent <= whole_blocks + 2560 * 6 * block
    assert sent < 0.8 * sum(shard.filesize for shard in manifest.shards)
    batches.close()


def test_neighbours_come_with_one_request(server: ShardServer, manifest: Manifest) -> None:
    """Lanes read whole shards in order: blocks of 24 samples are a request each, or two where shards meet."""
    remote, schedule = Manifest.load(server.url), schedule_of(manifest, block=24, piece=None)
    list(pair_batches(remote, ["train"], schedule, VIEWS, 0, 6, access=BRIEF))
    requests = sum(count for name, count in server.requests.items() if name.endswith(".tar"))
    assert 6 <= requests <= 12  # for 144 samples in 6 lanes


def test_what_has_no_room_in_a_block_is_read_singly(server: ShardServer, local: list[PairBatch]) -> None:
    remote = Manifest.load(server.url)
    small = replace(BRIEF, block_bytes=3000)  # of a block of 7 samples, 2 or 3 fit
    assert_equal(read(remote, small, stop=6), local[:6])
    reader = SampleReader(remote, ["train"], small)
    samples = [40, 3, 99, 41, 42, 4]
    sizes = [len(reader[sample].data) for sample in samples]
    found = reader.read_remote(samples, sum(sizes[:3]) + 10)
    assert list(found) == samples[:3]
    assert all(found[sample] == reader[sample].data for sample in found)
    assert reader.read_remote(samples, sizes[0] - 1) == {}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match=r"s3://bucket/dataset\.json .*`pip install 'ccscale\[s3\]'`"):
        Manifest.load("s3://bucket")


def test_an_unreachable_manifest_is_named() -> None:
    with pytest.raises(
        InputError, match=r"http://127\.0\.0\.1:1/dataset\.json cannot be read: .*check the address"
    ):
        Manifest.load("http://127.0.0.1:1", retry_seconds=0.2)
