"""The demo with a small network, for an epoch: every part of it but the quality (tools/paper/benchmark.py)."""

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from ccscale.cli.main import main
from ccscale.report import report
from ccscale.report.projection import project


@pytest.mark.slow
def test_the_demo_ends_with_scores_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "project", partial(project, landmarks=200))
    out = tmp_path / "demo"
    overrides = ["train.epochs=1", "model.backbone=test_resnet", "train.device=cpu", "data.workers=0"]
    assert main(["demo", "--out", str(out), *overrides, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    # k-means on the pixels does not depend on the training: sklearn's digits give these figures
    assert result["scores"]["k-means on pixels"]["acc"] == pytest.approx(0.79, abs=0.02)
    assert result["scores"]["k-means on pixels"]["nmi"] == pytest.approx(0.74, abs=0.02)
    assert set(result["scores"]) == {"cluster head", "k-means on features", "k-means on pixels"}
    with Image.open(result["picture"]) as picture:
        assert picture.width > 16 * 50
        assert picture.height > 10 * 50
    assert Path(result["report"]).read_text().startswith("<!doctype html>")
    before = (out / "run" / "metrics.jsonl").read_bytes()

    assert main(["demo", "--out", str(out), *overrides]) == 0  # again: nothing is trained anew
    said = capsys.readouterr()
    assert "k-means on pixels" in said.out
    assert "clusters.png" in said.out
    assert "there is nothing left to do" in said.err
    assert (out / "run" / "metrics.jsonl").read_bytes() == before
