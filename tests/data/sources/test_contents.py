"""Contents are read where they lie, and are small to send."""

import io
import os
import pickle
import socket

import numpy as np
import pytest
from PIL import Image

from ccscale.data.sources import contents
from ccscale.data.sources.contents import Bytes, File, FilePart, Layout, RawPixels, encode_png


def test_a_part_is_read_by_its_offset(tmp_path):
    (tmp_path / "f").write_bytes(bytes(range(100)))
    part = FilePart(str(tmp_path / "f"), 40, 5)
    assert (part.read(), part.size, part.path) == (bytes([40, 41, 42, 43, 44]), 5, str(tmp_path / "f"))
    assert File(part.path).read() == bytes(range(100))
    with pytest.raises(OSError, match="the file ends before byte 101") as error:
        FilePart(part.path, 96, 5).read()
    assert error.value.strerror == "the file ends before byte 101"  # what rejected.csv tells


@pytest.fixture
def special(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "FIFO")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as opened:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        opened.bind("socket")
        yield tmp_path


@pytest.mark.parametrize("what", ["FIFO", "device", "folder", "socket"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_neither_waited_for_nor_read(special, what, linked):
    path = special / what
    if linked:
        path = special / "x.jpg"
        path.symlink_to(what)
    with pytest.raises(OSError) as error:
        File(str(path)).read()
    assert error.value.strerror.startswith(f"it is no file but a {what}")


def test_a_file_of_any_size_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(OSError) as error:
        File(str(path)).read()
    assert error.value.strerror == "it exceeds the limit of 1,073,741,824 bytes"
    monkeypatch.setattr(contents, "MOST_BYTES", 10)
    path.write_bytes(bytes(10))
    assert File(str(path)).read() == bytes(10)
    with pytest.raises(OSError, match="it exceeds the limit of 10 bytes"):
        File("/proc/self/status").read()  # whose size is 0


def test_pixels_become_the_same_png_from_memory_and_from_a_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    stored = image.transpose(2, 0, 1).tobytes()  # plane by plane
    (tmp_path / "f").write_bytes(b"head" + stored)
    layout = Layout((3, 4, 6), (1, 2, 0))
    in_file = RawPixels(FilePart(str(tmp_path / "f"), 4, len(stored)), layout)
    in_memory = RawPixels(Bytes(stored), layout)
    assert in_file.read() == in_memory.read() == in_memory.read()
    opened = Image.open(io.BytesIO(in_file.read()))
    assert (opened.format, opened.mode, opened.info) == ("PNG", "RGB", {})
    assert np.array_equal(np.asarray(opened), image)
    assert (in_file.path, in_memory.path) == (str(tmp_path / "f"), None)
    assert in_file.size == in_memory.size == 72


def test_grey_pixels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    opened = Image.open(io.BytesIO(encode_png(grey)))
    assert opened.mode == "L"
    assert np.array_equal(np.asarray(opened), grey)


def test_many_parts_of_a_file_are_small_to_send():
    path = "/data/" + "x" * 1000
    parts = [RawPixels(FilePart(path, i, 10), Layout((96, 96), (0, 1))) for i in range(100)]
    layout = parts[0].layout
    parts = [RawPixels(part.raw, layout) for part in parts]
    assert len(pickle.dumps(parts)) < 100 * 60 + 2000
    assert pickle.loads(pickle.dumps(parts)) == parts
