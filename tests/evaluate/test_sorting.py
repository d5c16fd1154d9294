"""Images in folders by cluster: links, copies, a table; names; a kill; what is refused."""

import os
import shutil
from pathlib import Path

import pyarrow.csv
import pytest
from conftest import make_images

from ccscale.cli.main import main
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate import sorting
from ccscale.evaluate.naming import NameChanges, name_run
from ccscale.evaluate.sorting import ImagesToSort, sort_run


@pytest.fixture(scope="module")
def named(run, tmp_path_factory) -> Path:
    """The run, with names for its clusters."""
    copy = Path(shutil.copytree(run, tmp_path_factory.mktemp("named") / "run"))
    names = {cluster: ("a/cat ü", "..", "dog")[cluster % 3] for cluster in range(6)}
    name_run(copy, NameChanges(names=names))
    return copy


def rows(out: Path) -> list[dict[str, object]]:
    assert not (out / ".parts").exists()
    return pyarrow.csv.read_csv(out / "clusters.csv").to_pylist()


def test_links_to_files(named, tmp_path):
    photos = make_images(tmp_path / "photos", 12, classes=2)
    shutil.copytree(photos / "class0", photos / "more")  # the same names once more
    (photos / "more/bad.jpg").write_bytes(b"garbage")
    out = tmp_path / "sorted"
    result = sort_run(named, ImagesToSort(files=[str(photos)]), out, "links", device="cpu", workers=0)
    assert len(result["undecodable"]) == 1
    table = rows(out)
    assert len(table) == 19
    links = {path.relative_to(out) for path in out.rglob("*") if path.is_symlink()}
    assert links == {Path(row["folder"], row["file"]) for row in table if row["file"]}
    assert len(links) == 18
    for row in table:
        if row["file"]:
            assert os.readlink(out / row["folder"] / row["file"]) == row["origin"]
            assert row["folder"] in {"a_cat ü", str(row["cluster"]), "dog"}
            assert row["file"].endswith(".jpg")
    assert sum(result["folders"].values()) == 18


def test_copies_of_what_is_in_shards(run, shards, tmp_path, monkeypatch):
    """A killed one goes on: what is there stays."""
    out, how = tmp_path / "sorted", {"device": "cpu", "workers": 0}
    write = sorting.write_table

    def killed(path, tables):
        next(iter(tables))
        raise KeyboardInterrupt

    monkeypatch.setattr(sorting, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        sort_run(run, ImagesToSort(str(shards)), out, "copies", **how)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    assert 0 < len(before) < 150
    monkeypatch.setattr(sorting, "write_table", write)
    sort_run(run, ImagesToSort(str(shards)), out, "copies", **how)
    reader = SampleReader(Manifest.load(shards), ["train"])
    table = rows(out)
    assert [row["key"] for row in table] == [reader.key(i) for i in range(len(reader))]
    for i, row in enumerate(table):
        assert row["folder"] == row["cluster"]
        assert (out / str(row["folder"]) / row["file"]).read_bytes() == reader[i].data
    assert len(list(out.rglob("*.jpg"))) == 150
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_table_alone(run, shards, tmp_path, capsys):
    out = tmp_path / "sorted"
    command = ["sort", str(run), "--shards", str(shards), "--out", str(out), "--as", "csv", "--workers", "0"]
    assert main(command) == 0
    assert [path.name for path in out.iterdir()] == ["clusters.csv"]
    assert {row["folder"] for row in rows(out)} <= set(range(6))
    assert "clusters.csv: where each image is" in capsys.readouterr().out


FOLDERS = {"3": (None, "..", "clusters.csv"), "a_b": ("a/b", " .a\nb. "), "x" * 60: ("x" * 200,)}


def test_folders_are_called_as_clusters_are():
    for folder, names in FOLDERS.items():
        assert {sorting._folder({"cluster": 3, "name": name}) for name in names} == {folder}
    assert sorting._folder({"cluster": -1, "name": None}) == "unassigned"
    assert sorting._folder({"cluster": None}) is None


def test_what_is_refused(run, shards, refused, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    photos = make_images(tmp_path / "photos", 2)
    for sentence, *options in (
        (
            "{tmp}/full is neither empty nor made by an earlier sort",
            "--shards",
            shards,
            "--out",
            tmp_path / "full",
        ),
        (
            "images in shards are not files to link to",
            "--shards",
            shards,
            "--out",
            tmp_path / "a",
            "--as",
            "links",
        ),
        ("{tmp}/photos/b is inside {tmp}/photos, the source of", "--images", photos, "--out", photos / "b"),
        ("sort reads the list twice", "--images", "-", "--out", tmp_path / "a"),
    ):
        assert refused("sort", run, *options).startswith(sentence.format(tmp=tmp_path))
