"""``ccscale report`` from the command line."""

import json
import re
import shutil

import pytest
from conftest import small_settings, write_config

from ccscale.cli.main import main
from ccscale.data.conversion.shards import make_shards
from ccscale.data.sources.kinds import open_source


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """A run's folder that is written to."""
    return shutil.copytree(run, tmp_path_factory.mktemp("reported") / "run")


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))[1])


@pytest.mark.slow
def test_a_run_and_its_twin(folder, tmp_path, capfd):
    assert main(["report", str(folder), "--workers", "0"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"{folder}/report.html: ")
    assert "measuring the clusters of step 2 first" in err
    found = data_of(folder / "report.html")
    assert found["runs"][0]["figures"]["images"] == 150
    assert sum(found["clusters"]["size"]) == 150
    assert sum(len(one["keys"]) for one in found["tiles"]) == sum(
        min(size, 24) for size in found["clusters"]["size"]
    )

    twin = tmp_path / "twin"
    shutil.copytree(folder, twin)
    out = tmp_path / "both.html"
    arguments = ["report", str(folder), "--compare", str(twin), "--out", str(out), "--workers", "0", "--json"]
    assert main(arguments) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line) == {"out": str(out), "bytes": out.stat().st_size}
    compared = data_of(out)["compare"]
    assert compared["nmi"] == 1
    assert all(
        [column for column, _ in row] == [cluster] for cluster, row in enumerate(compared["rows"]) if row
    )


def test_several_processes_are_refused(folder, refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert "runs in one process" in refused("report", folder)


@pytest.mark.slow
def test_runs_of_other_images(folder, tmp_path, capfd):
    from harness.pictures import picture, save

    for i in range(20):
        save(tmp_path / f"images/{i}.png", picture(i))
    make_shards(
        open_source("folder", str(tmp_path / "images")), tmp_path / "shards", workers=1, progress=False
    )
    settings = small_settings(tmp_path / "shards", tmp_path / "other", train__max_steps=1)
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    capfd.readouterr()
    assert main(["report", str(folder), "--compare", str(tmp_path / "other"), "--workers", "0"]) == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith("error: the runs ")
    assert "have no image in common" in message
