"""``ccscale shards ...``: what is printed, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness.foreign_tars import pack, sample
from harness.pictures import picture, save

from ccscale.cli.main import main
from ccscale.cli.shards import make
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.verify import info
from ccscale.data.sources.kinds import open_source


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with an image in a class."""
    save(tmp_path / "in/odd/a.png", picture(0))
    return tmp_path / "in"


@pytest.fixture
def made(folder, capsys) -> Path:
    """Shards of it."""
    assert main(["shards", "make", "folder", str(folder), str(folder.parent / "x"), "--workers", "1"]) == 0
    capsys.readouterr()
    return folder.parent / "x"


def test_tables_or_json(made, capsys):
    verify = ["shards", "verify", str(made), "--workers", "1"]
    assert main(verify) == 0
    assert "all shards match the manifest" in capsys.readouterr().out
    assert main(["shards", "info", str(made)]) == 0
    assert "odd" in capsys.readouterr().out
    assert main(["shards", "info", str(made), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == info(made)
    (made / "train-000000.tar").unlink()
    assert main(verify) == 1
    assert capsys.readouterr().out == "train-000000.tar: the shard is missing\n"
    assert main([*verify, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["problems"] == [{"shard": "train-000000.tar", "what": "the shard is missing"}]


def test_what_make_refuses(folder, refused):
    assert "needs KIND SOURCE OUT" in refused("shards", "make", "folder", "a", "b", "c")
    for inside in ("", "shards", "../in/x"):
        message = refused("shards", "make", "folder", folder, folder / inside)
        assert message.endswith("the source of the images: choose a folder outside it for the shards")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["a.png"]
    assert not (folder / "shards").exists()
    assert "folder needs a SOURCE" in refused("shards", "make", "folder", folder.parent / "out")
    assert "digits has no option 'labels'" in refused("shards", "make", "digits", "out", "--no-labels")
    assert str(folder / "none") in refused("shards", "make", "folder", folder / "none", folder.parent / "out")


def test_one_split_without_labels(folder, tmp_path):
    out = str(tmp_path / "out")
    assert (
        main(
            ["shards", "make", "folder", str(folder), out, "--split", "all", "--no-labels", "--workers", "1"]
        )
        == 0
    )
    assert Manifest.load(out).splits == {"all": (1, 1)}
    assert Manifest.load(out).classes == ()


def test_make_takes_options_anywhere_and_passes_on_only_those_that_are_given(folder, tmp_path, monkeypatch):
    given = []

    def opening(kind, source, **options):
        given.append(options)
        return open_source("folder", source)

    monkeypatch.setattr(make, "open_source", opening)
    some = f"shards make table {folder} --resize 64 {tmp_path}/1 --workers 1 --json"
    more = (
        "shards make --no-labels --classes imagenet-10 --coarse --path-column p --label-column l --split s table "
        f"{folder} --shard-bytes 1MB {tmp_path}/2 --workers 1 --json"
    )
    assert main(some.split()) == main(more.split()) == 0
    assert given[0] == {}
    assert given[1] == {
        "classes": "imagenet-10",
        "coarse": True,
        "path_column": "p",
        "label_column": "l",
        "split": "s",
        "labels": False,
    }
    first, second = (Manifest.load(tmp_path / name).made_by["options"] for name in "12")
    assert (first["resize"], first["shard_bytes"]) == (64, 2**28)
    assert (second["resize"], second["shard_bytes"]) == (None, 1_000_000)


def test_index_and_verify_tars_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(tmp_path / "tars/a_0.tar", *sample("a"), ("a.json", b'{"kind": "cat"}'))
    pack(tmp_path / "tars/b_0.tar", *sample("b"), ("b.json", b'{"kind": "dog"}'), ("x.md", b""))

    def run(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        code = main(["shards", *map(str, arguments), "--workers", "1", "--json"])
        return code, json.loads(capsys.readouterr().out or "null")

    options = (
        "--split",
        "b_*=test",
        "--split",
        "a_*=train",
        "--label-field",
        "kind",
        "--out",
        tmp_path / "out",
    )
    assert run("index", tmp_path / "tars", *options, "--strict") == (2, None)
    code, facts = run("index", tmp_path / "tars", *options)
    assert (code, facts["passed_over"]) == (0, {".md": 1})
    assert {name: split["labelled"] for name, split in facts["splits"].items()} == {"train": 1, "test": 1}
    assert [entry["name"] for entry in facts["classes"]] == ["cat", "dog"]
    code, facts = run("verify", tmp_path / "out")
    assert (code, facts["ok"], facts["passed_over"]) == (0, True, {".md": 1})
    code, facts = run("verify", tmp_path / "out", "--strict")
    assert (code, facts["ok"], facts["problems"]) == (1, False, [])
