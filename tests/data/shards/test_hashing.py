"""A file is read once, hashed once, and reads like the file itself."""

import hashlib
import io
import os
import random

import pytest

from ccscale.data.shards import hashing as hashed
from ccscale.data.shards.hashing import HashingReader, blocks_of, hash_file


class Counting(io.BytesIO):
    """Counts the bytes that are read, and returns few of them at a time, as a network does."""

    def __init__(self, data: bytes, most: int = 1 << 30) -> None:
        super().__init__(data)
        self.count, self._most = 0, most

    def read(self, size: int = -1) -> bytes:
        part = super().read(min(size, self._most))
        self.count += len(part)
        return part


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(hashed, "BLOCK", 64)
    monkeypatch.setattr(hashed, "KEPT_BLOCKS", 3)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000, 1024])
def test_reads_like_the_file(small_blocks, size):
    data = random.Random(size).randbytes(size)
    rng = random.Random(1)
    for most in (1 << 30, 7):
        plain, reader = io.BytesIO(data), HashingReader(Counting(data, most))
        for _ in range(200):
            what = rng.randrange(4)
            if what == 0:
                place = rng.randrange(size + 100)
                assert plain.seek(place) == reader.seek(place)
            elif what == 1:
                back = min(plain.tell(), rng.randrange(100))
                assert plain.seek(-back, os.SEEK_CUR) == reader.seek(-back, os.SEEK_CUR)
            else:
                count = rng.randrange(200)
                assert plain.read(count) == reader.read(count)
            assert plain.tell() == reader.tell()
        assert reader.seek(0, os.SEEK_END) == size
        assert reader.finish() == (hashlib.sha256(data).hexdigest(), size)
        assert reader.seek(0) == 0
        assert reader.read() == data


def test_small_steps_back_read_nothing_again(small_blocks):
    data = random.Random(0).randbytes(64 * 20 + 5)
    file, ticks = Counting(data), []
    reader = HashingReader(file, lambda units=1: ticks.append(units))
    for place in range(0, len(data), 40):
        reader.seek(place)
        reader.read(30)
        reader.seek(max(place - 100, 0))
        reader.read(20)
    assert reader.finish() == (hashlib.sha256(data).hexdigest(), len(data))
    assert file.count == len(data)
    assert sum(ticks) == blocks_of(len(data)) == 21


def test_hash_file(tmp_path):
    data = bytes(3 * hashed.BLOCK + 1)
    (tmp_path / "a").write_bytes(data)
    ticks = []
    digest, size = hash_file(str(tmp_path / "a"), lambda units=1: ticks.append(units))
    assert (digest, size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert len(ticks) == blocks_of(len(data)) == 4
    assert blocks_of(0) == 0
