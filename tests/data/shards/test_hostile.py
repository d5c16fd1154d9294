"""Files that claim what they cannot have: sizes of exabytes, members that lead backwards, rows without end."""

import io
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from forged import COLUMNS, index_columns, number_field, parquet, tar_header

from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.index import read_index, scan_tar
from ccscale.data.shards.keys import unescaped
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard

END = bytes(1024)
PLAIN = tar_header({"name": b"a.jpg", "size": number_field(3, 12)}) + b"abc".ljust(512, b"\0")


def header(name, size, kind=b"0"):
    return tar_header({"name": name, "size": number_field(size, 12), "type": kind})


def pax(*records, size=None):
    body = b"".join(
        b"%d %b\n" % (next(n for n in range(200) if n == len(b"%d %b\n" % (n, r))), r) for r in records
    )
    return header(b"p", len(body) if size is None else size, b"x") + body.ljust(
        -(-len(body) // 512) * 512, b"\0"
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize("number", [2**60, 2**63 - 1, 2**63, 2**80, -1, -512, -513, -1024, -(2**40)])
@pytest.mark.parametrize("kind", [b"0", b"7", b"V", b"x", b"L"])
def test_absurd_sizes(number, kind):
    files = [PLAIN + pax(b"size=%d" % number) + header(b"b.jpg", 3) + END]
    if number != -1 or kind in b"07V":  # -1 is 0 blocks of a header's own
        files += [PLAIN + header(b"b.jpg", number, kind) + rest for rest in (END, PLAIN + END)]
    for data in files:
        with pytest.raises(ShardError, match=r"fuzz\.tar: the tar is (damaged|cut off)"):
            scan_tar(io.BytesIO(data), "fuzz.tar")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("number", [2**60, 2**80, -1, -1024])
def test_absurd_sizes_of_sparse_members(number):
    with pytest.raises(ShardError, match=r"damaged|is sparse"):
        scan_tar(io.BytesIO(PLAIN + header(b"b.jpg", number, b"S") + PLAIN + END), "fuzz.tar")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_headers_of_headers_without_end(kind):
    with pytest.raises(ShardError, match="the tar is damaged"):
        scan_tar(io.BytesIO(header(b"p", 0, kind) * 5000 + PLAIN + END), "fuzz.tar")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (b"../../x.jpg", "../../x"),
        (b"/etc/x.jpg", "/etc/x"),
        (b"a\nb.jpg", "a\nb"),
        ("é/ü.jpg".encode(), "é/ü"),
        (b"|touch x.jpg", "|touch x"),
    ],
)
def test_names_are_only_names(name, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = scan_tar(io.BytesIO(header(name, 3) + b"abc".ljust(512, b"\0") + END), "fuzz.tar")
    assert found.keys == [known]
    assert os.listdir() == []


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_links_devices_and_folders_are_passed_over(kind):
    special = tar_header({"name": b"b.jpg", "type": kind, "linkname": b"/etc/passwd"})
    assert scan_tar(io.BytesIO(special + PLAIN + special + END), "fuzz.tar").keys == ["a"]


@pytest.mark.parametrize("sparse", [b"GNU.sparse.map=0,1", b"GNU.sparse.major=1", b"GNU.sparse.size=9"])
def test_sparse_members_are_refused(sparse):
    records = (sparse, b"GNU.sparse.minor=0", b"GNU.sparse.realsize=8000000000", b"GNU.sparse.name=a.jpg")
    body = b"1\n0\n5\n".ljust(512, b"\0") + b"bytes".ljust(512, b"\0")
    data = pax(*records) + header(b"a.jpg", 1024) + body + END
    with pytest.raises(ShardError, match=r"is sparse|damaged"):
        scan_tar(io.BytesIO(data), "fuzz.tar")


def test_names_that_are_no_utf_8_can_be_had_back():
    found = scan_tar(io.BytesIO(header(b"x/\xff.jpg", 3) + b"abc".ljust(512, b"\0") + END), "fuzz.tar")
    assert found.keys == ["x/%xFF"]
    assert os.fsencode(unescaped(found.keys[0])) == b"x/\xff"


MEASURE = """
import resource, sys
from ccscale.data.shards.index import scan_tar
from ccscale.data.shards.errors import ShardError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        scan_tar(path)
        print("read")
    except ShardError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_vast_header_is_not_read_into_memory(tmp_path):
    paths = []
    for kind in (b"x", b"g", b"L", b"K"):
        path = tmp_path / f"{kind.decode()}.tar"
        path.write_bytes(PLAIN + header(b"p", 2**30, kind))
        os.truncate(path, 2**30 + 10240)  # the rest is a hole
        paths.append(path)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True
    )
    *said, grown = result.stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in said] == [
        f"a header claims to have more than {2**20} bytes"
    ] * 4
    assert int(grown) < 50 * 1024  # KiB


def read_parquet(folder, columns, nsamples=2):
    (folder / "t-0.tar").write_bytes(bytes(4096))
    (folder / "t-0.index.parquet").write_bytes(parquet(columns))
    shard = Shard("t-0.tar", nsamples, 4096, "0" * 64, "t")
    return read_index(Manifest(str(folder), "x", (shard,), (), (), {"t": 0}, {}), shard)


@pytest.mark.parametrize(
    ("offsets", "sizes"),
    [
        ((-1, 0), (1, 1)),
        ((0, 0), (-1, 1)),
        ((0, 4096), (1, 1)),
        ((0, 2**63 - 1), (1, 1)),
        ((2**63 - 1, 0), (2**63 - 1, 1)),
        ((-(2**63), 0), (2**63 - 1, 1)),
        ((0, 0), (4097, 1)),
    ],
)
def test_indexes_that_point_elsewhere(offsets, sizes, tmp_path):
    with pytest.raises(ShardError, match=r"t-0\.tar: its index points past its end"):
        read_parquet(tmp_path, index_columns(offsets, sizes))


def test_an_index_may_point_to_the_last_byte(tmp_path):
    found = read_parquet(tmp_path, index_columns((0, 4096), (4096, 0)))
    assert found.offsets.tolist() == [0, 4096]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"label": pa.array([-2, 0], pa.int32())}, "labels below 0"),
        ({"label": pa.array([2**20, 0], pa.int32())}, "labels below 0 or above 1,048,575"),
        ({"key": ["a", None]}, "gaps"),
        ({"size": pa.array([1, None], pa.int64())}, "gaps"),
        ({"offset": ["a", "b"]}, "cannot be read"),
        ({"offset": [0.5, 1.0]}, "cannot be read"),
        ({"label": pa.array([2**40, 0], pa.int64())}, "cannot be read"),
        ({"key": pa.array([b"\xff", b"\xfe"], pa.binary())}, "cannot be read"),
        ({"key": pa.array([[1], [2]])}, "cannot be read"),
    ],
)
def test_indexes_of_the_wrong_kind(change, what, tmp_path):
    with pytest.raises(
        ShardError, match=rf"t-0\.tar: its index .*t-0\.index\.parquet (has )?{what}.*delete the index"
    ):
        read_parquet(tmp_path, index_columns() | change)


@pytest.mark.parametrize(("text", "damaged"), [(b"efgh", b"\xff\xff\xff\xff"), (b"key", b"\xe5\xe5\xe5")])
def test_text_that_is_no_utf_8(text, damaged, tmp_path):
    columns = index_columns() | {"key": ["abcd", "efgh"]}
    data = parquet(columns, compression="none", use_dictionary=False)
    read_parquet(tmp_path, columns)
    (tmp_path / "t-0.index.parquet").write_bytes(data.replace(text, damaged))
    shard = Shard("t-0.tar", 2, 4096, "0" * 64, "t")
    with pytest.raises(ShardError, match="cannot be read"):
        read_index(Manifest(str(tmp_path), "x", (shard,), (), (), {"t": 0}, {}), shard)


def test_rows_are_counted_before_they_are_read(tmp_path, monkeypatch):
    many = 2_000_000
    columns = {
        name: pa.repeat(value, many) for name, value in zip(COLUMNS, ["a", "jpg", 0, 0, 0, "o"], strict=True)
    }
    monkeypatch.setattr("ccscale.data.shards.index.to_table", lambda data: pytest.fail("read"))
    with pytest.raises(ShardError, match=f"it has {many} samples, but 2 in the manifest"):
        read_parquet(tmp_path, columns)
    assert (tmp_path / "t-0.index.parquet").stat().st_size < 100_000
