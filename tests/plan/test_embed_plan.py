"""What embedding will take is told by the first images, and nothing is written."""

import json

import pytest

from ccscale.cli.main import main
from ccscale.plan import embed_plan

LINE = [
    "--backbone",
    "test_resnet",
    "--weights",
    "random",
    "--size",
    "16",
    "--workers",
    "0",
    "--device",
    "cpu",
]


def test_it(shards, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(embed_plan, "SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "embed", str(shards), *LINE, "--views", "2", "--batch", "12", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["images"], plan["views"]) == (150, 3)
    assert plan["disk"] == 150 * 3 * plan["width"] * 2
    assert plan["seconds"] == pytest.approx(150 / plan["rate"])
    assert plan["bytes"] > 2**20
    assert not list(tmp_path.iterdir())
    assert main(["plan", "embed", str(shards), *LINE]) == 0  # fewer batches than those that do not count
    assert "150 images, 1 view of each" in capsys.readouterr().out
