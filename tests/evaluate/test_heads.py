"""The head that serves is chosen without labels, kept with the checkpoint, and is the one that all verbs take."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from conftest import small_settings, write_config

import ccscale
from ccscale.checkpoint.marker import read_marker
from ccscale.cli.main import main
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.evaluate.heads import choose_heads
from ccscale.loss import cluster_loss, temi_loss
from ccscale.loss.prior import estimated, power_law

STEP = "step-00000002"


def config_of(heads: int, clusters: list[int], **loss: Any) -> Config:
    model = {"clusters": clusters, "heads": heads}
    return parse_config({"data": {"shards": "-"}, "model": model, "loss": loss})


def soft(seed: int, k: int, images: int = 40, views: float = 0.3) -> np.ndarray:
    """(2, n, K): assignments whose two views are as unlike as asked for."""
    draw = np.random.default_rng(seed)
    logits = 4 * draw.normal(size=(images, k)) + views * draw.normal(size=(2, images, k))
    p = np.exp(logits)
    return (p / p.sum(axis=2, keepdims=True)).astype(np.float32)


def test_losses_are_those_of_training() -> None:
    p = [soft(1, 4), soft(2, 4), soft(3, 3), soft(4, 3)]
    pairs = np.concatenate(p, axis=2)
    a_and_b = [[torch.from_numpy(view).double() for view in views] for views in p]
    choice = choose_heads(pairs, config_of(2, [4, 3], cluster_temperature=0.7, entropy_weight=0.5))
    for row, (p_a, p_b) in zip(choice.rows, a_and_b, strict=True):
        assert row["loss"] == pytest.approx(float(cluster_loss(p_a, p_b, 0.7, entropy_weight=0.5)))
    for loss, prior in (
        ({"prior": "none"}, None),
        ({"prior": "power", "prior_exponent": 1.0}, power_law(1.0)),
        ({"prior": "estimated"}, None),
    ):
        choice = choose_heads(pairs, config_of(2, [4, 3], **loss))
        for row, (p_a, p_b) in zip(choice.rows, a_and_b, strict=True):
            if loss["prior"] == "estimated":
                prior = estimated(torch.zeros(p_a.shape[1], dtype=torch.float64), 0)
            weight = 0 if prior is None else 1
            assert row["loss"] == pytest.approx(float(cluster_loss(p_a, p_b, 1, None, True, weight, prior)))
    choice = choose_heads(pairs, config_of(2, [4, 3], objective="temi", temi_beta=0.8))
    heads = [torch.cat(views) for views in a_and_b]
    prior = torch.cat([p.mean(dim=0) for p in heads])
    mean = np.mean([row["loss"] for row in choice.rows])
    assert mean == pytest.approx(float(temi_loss(heads, heads, prior, 0.8)))


def test_of_the_more_stable_half_the_lowest_loss_serves() -> None:
    """A head of a single cluster has no stability, one by chance a high loss; of each K one is chosen."""
    collapsed = np.full((2, 40, 4), 0.001, np.float32)
    collapsed[:, :, 0] = 0.997
    by_chance = soft(5, 4, views=40)
    good, better = soft(6, 4, views=3), soft(6, 4, views=0.1)
    config = config_of(4, [4, 5])
    others = [soft(seed, 5) for seed in range(4)]
    choice = choose_heads(np.concatenate([collapsed, by_chance, good, better, *others], axis=2), config)
    assert choice.heads[0] == 3
    assert choice.rows[0]["stability"] == 0
    assert 4 <= choice.heads[1] < 8
    none = choose_heads(np.empty((2, 0, 36), np.float32), config)
    assert none.heads == (0, 4)
    assert none.rows[0]["loss"] is None


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps with two heads of four clusters and two of three."""
    root = tmp_path_factory.mktemp("heads")
    model = {"backbone": "test_resnet", "stem": "small", "clusters": [4, 3], "heads": 2}
    settings = small_settings(shards, root / "run", model=model, train__max_steps=2)
    assert main(["train", str(write_config(root, settings))]) == 0
    return root / "run"


@pytest.mark.slow
def test_the_chosen_head_serves_everywhere(
    run: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    (trained,) = [line for line in lines if line["kind"] == "evaluation"]
    chosen = trained["chosen"]
    assert read_marker(run / "checkpoints" / STEP)["heads"] == chosen
    capsys.readouterr()
    found = {}
    for k in (4, 3):
        assert main(["evaluate", str(run), "--json", "--clusters", str(k)]) == 0
        found[k] = json.loads(capsys.readouterr().out)
        assert found[k]["clusters"] == k
        assert found[k]["basis"].get("head", 0) == found[k]["head"]
        rows = found[k]["heads"]
        assert [row["clusters"] for row in rows] == [4, 4, 3, 3]
        assert [row["head"] for row in rows if row["chosen"]] == chosen
        (serves,) = [row for row in rows if row["serves"]]
        assert serves["acc"] == found[k]["acc"]
        assert serves["stability"] == found[k]["stability"]["stability"]
        assert [row["loss"] for row in rows] == [row["loss"] for row in trained["heads"]]
    assert (found[4]["head"], found[3]["head"]) == tuple(chosen)
    assert found[4]["acc"] == trained["acc"]

    table = tmp_path / "found.parquet"
    assert main(["predict", str(run), "--shards", str(shards), "--out", str(table), "--clusters", "3"]) == 0
    clusters = pyarrow.parquet.read_table(table)["cluster"].to_numpy()
    assert np.bincount(clusters, minlength=3).tolist() != found[4]["sizes"]
    assert main(["export", str(run), str(tmp_path / "net"), "--clusters", "3"]) == 0
    network = ccscale.load(tmp_path / "net")
    assert (network.k, network.serving) == (3, chosen[1])
    again = tmp_path / "again.parquet"
    assert main(["predict", str(tmp_path / "net"), "--shards", str(shards), "--out", str(again)]) == 0
    assert (pyarrow.parquet.read_table(again)["cluster"].to_numpy() == clusters).all()
    # The last evaluation was of three clusters: the report measures anew.
    assert main(["report", str(run)]) == 0
    assert '"heads":[{"head":0,"of":"training","clusters":4,' in (run / "report.html").read_text()
    assert json.loads((run / "evaluation.json").read_text())["clusters"] == 4


def test_a_k_that_there_is_not(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--clusters", "7"]) == 2
    sentence = "there is no head with 7 clusters: the network has heads with 4 and 3 (--clusters)"
    assert sentence in capsys.readouterr().err
