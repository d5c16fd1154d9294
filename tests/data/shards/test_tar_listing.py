"""Which files of a folder are tars, wherever links lead, and which are refused by their names."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from harness.foreign_tars import pack, sample, write

from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.tar_listing import tars_below
from ccscale.data.shards.verify import verify
from ccscale.errors import InputError


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    pack(tmp_path / "elsewhere/00000.tar", *sample("a"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to("../elsewhere")
    made = adopt(tmp_path / "data", workers=1, progress=False)
    assert [shard.url for shard in made.shards] == ["train/00000.tar"]
    assert verify(tmp_path / "data", workers=1).problems == []
    (tmp_path / "data/itself").symlink_to("itself")
    (tmp_path / "data/nowhere").symlink_to("gone")
    assert tars_below(str(tmp_path / "data")) == ["train/00000.tar"]
    pack(tmp_path / "loop/a/00000.tar", *sample("a"))
    pack(tmp_path / "loop/b/00000.tar", *sample("b"))
    (tmp_path / "loop/a/b").symlink_to("../b")
    (tmp_path / "loop/b/a").symlink_to("../a")
    (tmp_path / "loop/x.tar").symlink_to(".")
    found = [
        "a/00000.tar",
        "a/b/00000.tar",
        "b/00000.tar",
        "b/a/00000.tar",
    ]  # a link back leads to nothing more
    assert tars_below(str(tmp_path / "loop")) == found


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path / "a/00000.tar", *sample("a"))
    pack(tmp_path / "b/00000.tar", *sample("b"))
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if path.endswith("b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"/b cannot be read \(Permission denied\)"):
        adopt(tmp_path, workers=1, progress=False)


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("x.tar.gz", "gunzip x.tar.gz"),
        ("x.tgz", "gunzip x.tgz"),
        ("x.tar.zst", "unzstd --rm x.tar.zst"),
        ("a b.tar.xz", "unxz 'a b.tar.xz'"),
    ],
)
def test_compressed_tars_are_refused_by_name(tmp_path: Path, name: str, program: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"{name}: it is compressed, .*; run `{program}`"):
        adopt(tmp_path, workers=1, progress=False)
    pack(tmp_path / "00000.tar", *sample("a"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(b"x")
    with pytest.raises(InputError, match="and 1 more: it is compressed"):
        adopt(tmp_path, workers=1, progress=False)


@pytest.mark.parametrize("what", ["FIFO", "device"])
def test_a_tar_that_is_no_file_is_neither_waited_for_nor_read(tmp_path, what):
    (tmp_path / "tars").mkdir()
    path = tmp_path / "tars/x.tar"
    os.mkfifo(path) if what == "FIFO" else path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=rf"x\.tar: it cannot be read: it is no file but a {what}"):
        adopt(tmp_path / "tars", workers=1, progress=False)


@pytest.mark.parametrize(
    "name", ["2024-01-01T00:00.tar", "a\\b.tar", "a\nb.tar", "caf\udce9.tar", "%2e%2e/x.tar", "a\x1b[2Jb.tar"]
)
def test_a_name_that_no_manifest_could_list_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "00000.tar", 0, 2)
    write(tmp_path / "other", 2, 2)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "other").rename(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("ccscale.pool.run", lambda *arguments: pytest.fail("read"))
    with pytest.raises(InputError, match="rename it") as caught:
        adopt(tmp_path, workers=1, progress=False)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb", "a:b"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    write(tmp_path / "00000.tar", 0, 2)
    (tmp_path / "00000.tar").rename(tmp_path / name / "00000.tar")
    adopt(tmp_path / name, workers=1, progress=False)
    assert Manifest.load(tmp_path / name).name == name.replace("\udce9", "%xE9")
    assert verify(tmp_path / name, workers=1).problems == []
