"""What could not be read for now is tried again by the same command, and the shards end as if it had been read."""

import contextlib
import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import make_images
from harness.killed_making import Killed, contents, die_at
from harness.listings import encoded
from harness.servers import ShardServer

from ccscale.cli.main import main
from ccscale.data.conversion import stash
from ccscale.data.conversion.record import FOLDER
from ccscale.data.conversion.shards import make_shards
from ccscale.data.remote import downloads as web
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import verify
from ccscale.data.sources.folders import folder
from ccscale.data.sources.table import table
from ccscale.errors import Fault, InputError

NUMBER = 12
OPTIONS = {
    "as they are": {"shard_samples": 5},
    "dedup": {"shard_samples": 5, "dedup": True},
    "resize": {"resize": 5, "shard_bytes": 12_000},
    "dedup and resize": {"resize": 5, "shard_bytes": 12_000, "dedup": True},
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Twelve images, of which number 7 is number 2 once more."""
    monkeypatch.setattr(web, "PAUSE_SECONDS", 0.01)
    (tmp_path / "web").mkdir()
    for number in range(NUMBER):
        (tmp_path / f"web/{number}.jpg").write_bytes(encoded(2 if number == 7 else number))
    with ShardServer(tmp_path / "web") as started:
        yield started


@pytest.fixture
def urls(server, tmp_path) -> Path:
    """A table of them, of one that is not there, and of a page."""
    (tmp_path / "web/page.jpg").write_text("<html>")
    names = [*(f"{number}.jpg" for number in range(NUMBER)), "gone.jpg", "page.jpg"]
    path = tmp_path / "t.csv"
    path.write_text("".join(f"{line}\n" for line in ["url", *(f"{server.url}/{name}" for name in names)]))
    return path


def make(path: Path, out: Path, **options) -> Manifest:
    return make_shards(table(path), out, **{"workers": 1, "progress": False, **options})


def rejected(out: Path) -> dict[str, tuple[str, str]]:
    """Return the name of each URL to its reason and whether that may pass."""
    with open(out / "rejected.csv", newline="") as file:
        return {
            line["origin"].rpartition("/")[2]: (line["reason"], line["temporary"])
            for line in csv.DictReader(file)
        }


GONE = ("the file cannot be read: there is no such file", "")
PAGE = (
    "it is not an image in a known format (JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF, PPM, HEIC, JPEG XL, DICOM)",
    "",
)
AWAY = ("the file cannot be read: the server answers 503", "yes")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_same_command_tries_again_what_may_have_passed(server, urls, tmp_path, options):
    make(urls, tmp_path / "unbroken", **options)
    assert set(server.requests.values()) == {1}  # each once, hashed and measured or not
    server.requests.clear()
    out = tmp_path / "out"
    server.fail("^(2|3|11).jpg", "503", 1000)
    made = make(urls, out, **options)
    assert (made.made_by["rejected"], made.made_by["temporary"]) == (5, 3)
    assert rejected(out) == {"gone.jpg": GONE, "page.jpg": PAGE} | dict.fromkeys(
        ["2.jpg", "3.jpg", "11.jpg"], AWAY
    )
    assert verify(out, workers=1).problems == []
    before = contents(out)
    make(urls, out, **options)
    assert contents(out) == before  # nothing has passed
    server.mend()
    make(urls, out, **options)
    assert contents(out) == contents(tmp_path / "unbroken")
    once = Counter({f"{number}.jpg": 1 for number in range(NUMBER)} | {"gone.jpg": 1, "page.jpg": 1})
    assert server.requests == once | dict.fromkeys(["2.jpg", "3.jpg", "11.jpg"], 7)
    requests = sum(server.requests.values())
    make(urls, out, **options)
    assert sum(server.requests.values()) == requests  # what has gone for good is not asked for again


@pytest.mark.parametrize("options", [OPTIONS["as they are"], OPTIONS["dedup and resize"]], ids=["", "both"])
@pytest.mark.slow
def test_killed_at_every_file_of_the_second_try(server, urls, tmp_path, options):
    make(urls, tmp_path / "unbroken", **options)
    server.fail("^(2|3).jpg", "503", 1000)
    make(urls, tmp_path / "first", **options)
    server.mend()
    for step in range(100):
        out = tmp_path / f"out{step}"
        shutil.copytree(tmp_path / "first", out)
        server.requests.clear()
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, step, after=step % 2 == 0)
            with contextlib.suppress(Killed):
                make(urls, out, **options)
                break
        make(urls, out, **options)
        assert contents(out) == contents(tmp_path / "unbroken"), f"killed at step {step}"
        assert set(server.requests) <= {"2.jpg", "3.jpg"}
    assert step > 8


def test_killed_while_it_reads_beforehand(server, urls, tmp_path, monkeypatch):
    options = {"shard_samples": 5, "dedup": True}
    make(urls, tmp_path / "unbroken", **options)
    monkeypatch.setattr(stash, "CHUNK", 4)
    server.requests.clear()
    with monkeypatch.context() as patch:
        die_at(patch, 8, after=False)  # in the third chunk: request, two chunks of three files, a tar
        with pytest.raises(Killed):
            make(urls, tmp_path / "out", **options)
    make(urls, tmp_path / "out", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")
    assert [server.requests[f"{number}.jpg"] for number in range(NUMBER)] == [1] * 8 + [2] * 4


def test_what_has_gone_for_good_meanwhile_is_tried_no_more(server, urls, tmp_path):
    out = tmp_path / "out"
    server.fail("^3.jpg", "503", 1000)
    make(urls, out)
    server.mend()
    (tmp_path / "web/3.jpg").unlink()
    made = make(urls, out)
    assert "temporary" not in made.made_by
    assert rejected(out)["3.jpg"] == GONE
    assert not (out / FOLDER).exists()
    make(urls, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_nothing_can_be_read_for_now(server, urls, tmp_path):
    server.fail("jpg", "503", 1000)
    with pytest.raises(Fault, match=r"none of the 14 images of t can be read .*run the same command again"):
        make(urls, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_run_me_again(server, urls, tmp_path, capsys):
    command = ["shards", "make", "table", str(urls), str(tmp_path / "out"), "--workers", "1"]
    server.fail("^3.jpg", "503", 1000)
    for _ in range(2):
        assert main(command) == 75
        said = capsys.readouterr().err
        assert "3 images cannot be read, 1 of them perhaps for now (run the same command again" in said
    server.mend()
    assert main(command) == 0
    assert "2 images cannot be read: see" in capsys.readouterr().err


@pytest.fixture
def photos(tmp_path) -> Path:
    root = make_images(tmp_path / "photos", 10, size=(12, 9))
    (root / "class1/broken.jpg").write_bytes(b"broken")
    (root / "class2/link.jpg").symlink_to(tmp_path / "away.jpg")
    return root


@pytest.mark.parametrize("options", [{}, {"dedup": True}, {"resize": 8}], ids=["", "dedup", "resize"])
@pytest.mark.parametrize("killed", [False, True])
def test_files_that_were_mended_are_noticed(photos, tmp_path, monkeypatch, options, killed):
    options = {"shard_samples": 4, "workers": 1, "progress": False, **options}
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        if killed:  # all shards are there, but for the list of what was rejected
            patch.setattr("ccscale.data.conversion.shards.finish", lambda *_: os.kill(0, 0) or 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            make_shards(folder(photos), out, **options)
    assert (out / "dataset.json").exists() != killed
    inodes = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    (photos / "class1/broken.jpg").write_bytes((photos / "class1/0001.jpg").read_bytes())
    make_shards(folder(photos), out, **options)
    make_shards(folder(photos), tmp_path / "fresh", **options)
    assert contents(out) == contents(tmp_path / "fresh")
    if "dedup" not in options:  # there it is a duplicate, so that all are laid out anew
        kept_as_they_are = [p.name for p in out.glob("*.tar") if p.stat().st_ino == inodes[p.name]]
        assert len(kept_as_they_are) == 2
    (tmp_path / "away.jpg").write_bytes(encoded(77))
    made = make_shards(folder(photos), out, **options)
    assert made.made_by["rejected"] == 0
    assert not (out / "rejected.csv").exists()
    make_shards(folder(photos), tmp_path / "again", **options)
    assert contents(out) == contents(tmp_path / "again")


def test_a_row_whose_folder_does_not_exist_is_an_image_that_cannot_be_read(photos, tmp_path):
    path = photos / "t.csv"
    path.write_text("path\nclass0/0000.jpg\ngone/a.jpg\n/nowhere/b.jpg\n")
    make(path, tmp_path / "out", dedup=True)
    assert rejected(tmp_path / "out") == dict.fromkeys(
        ["a.jpg", "b.jpg"], ("the file cannot be read: No such file or directory", "")
    )
    # Where the folder was there when the table was read, the source has gone.
    source = table(path)
    (photos / "class0").rename(tmp_path / "elsewhere")
    with pytest.raises(Fault, match=r"the source can no longer be read, at .*class0/0000\.jpg"):
        make_shards(source, tmp_path / "other", workers=1, progress=False)


def test_another_request_is_refused_while_some_may_come(server, urls, tmp_path):
    server.fail("^3.jpg", "503", 1000)
    make(urls, tmp_path / "out")
    with pytest.raises(InputError, match="already contains a data set"):
        make(urls, tmp_path / "out", resize=5)
