"""Lines are in the file once each and whole, whatever the disk took in between."""

import errno
import os
from pathlib import Path

import pytest

from ccscale.train.lines_file import LinesFile


def fail_after(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let the disk take so many bytes more, a few at a time."""
    write, left = os.write, [room]

    def take(descriptor: int, data: memoryview) -> int:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(descriptor, data[: min(left[0], 5)])
        left[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", take)


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("zero\n")
    file = LinesFile(path)
    file.append([])
    file.append(["one", "zwei und dreißig"])
    file.append(["three"])
    assert path.read_text(encoding="utf-8") == "zero\none\nzwei und dreißig\nthree\n"
    assert (file.failure, file.kept) == (None, 0)


@pytest.mark.parametrize("room", [0, 3, 4, 7, 12])
def test_what_the_disk_does_not_take_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path = tmp_path / "lines"
    file = LinesFile(path)
    file.append(["zero"])
    with monkeypatch.context() as patch:
        fail_after(patch, room)
        file.append(["one", "two", "three"])
        assert path.read_text() == "zero\n"
        assert file.failure is not None
        assert (file.failure.errno, file.kept) == (errno.ENOSPC, 3)
        fail_after(patch, 2)
        file.append(["four"])
        assert file.kept == 4
        assert path.read_text() == "zero\n"
    file.append([])
    assert path.read_text() == "zero\none\ntwo\nthree\nfour\n"
    assert (file.failure, file.kept) == (None, 0)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    file = LinesFile(tmp_path / "folder/lines")
    file.append(["one"])
    assert isinstance(file.failure, FileNotFoundError)
    (tmp_path / "folder").mkdir()
    file.append(["two"])
    assert (tmp_path / "folder/lines").read_text() == "one\ntwo\n"
