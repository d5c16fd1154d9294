"""The members of a tar are found wherever it lies, and what is damaged is told."""

import bz2
import gzip
import io
import lzma
import random
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccscale.data.shards.errors import CompressedTar, ShardError
from ccscale.data.shards.tar_reader import tar_members


def scan(path, *stretch: int) -> list[tuple[str, int, int]]:
    with open(path, "rb", buffering=0) as file:
        found = tar_members(file, path.name, *stretch)
        return [(member.name, member.offset_data, member.size) for member in found if member.isreg()]


def refused(data: bytes, message: str, error: type[ShardError] = ShardError) -> None:
    with pytest.raises(error, match=message):
        list(tar_members(io.BytesIO(data), "x.tar"))


def tar_of(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 700
            tar.addfile(info, io.BytesIO(bytes([number + 1]) * 700))
    return file.getvalue()


def write(path, names, format=tarfile.GNU_FORMAT, size=700):
    with tarfile.open(path, "w", format=format) as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size + number, 1.5 if format == tarfile.PAX_FORMAT else 7
            tar.addfile(info, io.BytesIO(bytes([number % 256]) * info.size))
    return path


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_same_members_as_tarfile(tmp_path, format):
    long = "/".join(["folder" * 6] * 3) + "/" + "x" * 60  # USTAR parts it, GNU and PAX extend the header
    names = ["./a.JPEG", "b c.JPEG", "größe.JPEG", "n01/n01_1.JPEG", long, "z"]
    path = write(tmp_path / "a.tar", names, format)
    with tarfile.open(path, "a", format=format) as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("dir", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "target" * 30 if format != tarfile.USTAR_FORMAT else "target"
            tar.addfile(info)
        last = tarfile.TarInfo("last")
        last.size = 3
        tar.addfile(last, io.BytesIO(b"end"))
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    found = scan(path)
    assert found == expected
    assert [name for name, _, _ in found] == [*names, "last"]
    data = path.read_bytes()
    assert [data[offset] for _, offset, _ in found[:6]] == [0, 1, 2, 3, 4, 5]


def test_a_tar_inside_another_file(tmp_path):
    inner = write(tmp_path / "a.tar", ["a", "b"]).read_bytes()
    (tmp_path / "outer").write_bytes(b"x" * 1000 + inner + b"y" * 99)
    assert scan(tmp_path / "outer", 1000, len(inner)) == [("a", 512, 700), ("b", 2048, 701)]
    with pytest.raises(
        ShardError, match="the tar is damaged or truncated at byte 2560: unexpected end of data"
    ):
        scan(tmp_path / "outer", 1000, 2600)
    with pytest.raises(ShardError, match="the tar is truncated at byte 3072: it has no end mark"):
        scan(tmp_path / "outer", 1000, 3072)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (0, "truncated at byte 0: empty file"),
        (100, "truncated at byte 0: truncated header"),
        (600, "truncated at byte 1024: unexpected end of data"),
        (512 + 1024, "truncated at byte 1536: it has no end mark"),  # between members
        (512 + 1024 + 512 + 700, "truncated at byte 2560: unexpected end of data"),
    ],
)
def test_a_tar_that_is_cut_off(tmp_path, cut, message):
    path = write(tmp_path / "a.tar", ["a", "b"])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ShardError, match=message):
        scan(path)


def test_damage_is_found_wherever_it_is():
    """A tar that is cut off at any block, or has a header changed, is never taken for a shorter one."""
    data = tar_of(*(f"{i}.jpg" for i in range(3)))
    end = 3 * (512 + 1024)
    assert len(list(tar_members(io.BytesIO(data), "x.tar"))) == 3
    for cut in [*range(0, end + 1, 512), 100, end - 400, end + 511]:
        refused(data[:cut], r"x\.tar: the tar is (damaged or )?truncated at byte")
    for header in (0, 1536, 3072):
        for at, value in ((0, ord("c")), (124, ord("7")), (150, data[header + 150] ^ 1)):
            damaged = bytearray(data)
            damaged[header + at] = value
            refused(bytes(damaged), rf"x\.tar: the tar is damaged (or truncated )?at byte {header}")
    refused(data + data, "neither a header nor an end")


@pytest.mark.parametrize(
    ("compress", "program"),
    [
        (gzip.compress, "gunzip"),
        (bz2.compress, "bunzip2"),
        (lzma.compress, "unxz"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "unzstd --rm"),
    ],
)
def test_compressed_tars_are_refused_with_the_remedy(compress, program):
    refused(compress(tar_of("a.jpg")), f"x.tar: it is compressed, .*: run {program} on it", CompressedTar)


def test_sizes_beyond_eight_gigabytes(tmp_path):
    info = tarfile.TarInfo("large")
    info.size = 9 << 30
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + info.size + 1024)  # a file of holes
    with open(tmp_path / "a.tar", "rb") as file:  # its end is not waited for
        large = next(tar_members(file, "a.tar"))
    assert (large.name, large.offset_data, large.size) == ("large", 512, 9 << 30)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 20), cut=st.integers(0, 12_000))
def test_any_damage_is_told_or_harmless(tmp_path_factory, seed, changes, cut):
    folder = tmp_path_factory.mktemp("fuzz")
    data = bytearray(write(folder / "a.tar", ["a", "b" * 150, "c"], tarfile.PAX_FORMAT).read_bytes())
    rng = random.Random(seed)
    for _ in range(changes):
        data[rng.randrange(len(data))] = rng.randrange(256)
    (folder / "a.tar").write_bytes(data[: max(1, len(data) - cut)])
    try:
        members = scan(folder / "a.tar")
    except ShardError:
        return
    assert all(512 <= offset <= offset + size <= len(data) for _, offset, size in members)
