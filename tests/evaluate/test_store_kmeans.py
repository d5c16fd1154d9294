"""``ccscale kmeans``: a table, the centres, and figures where there are labels."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness.stores import make_store

from ccscale.cli.main import main
from ccscale.evaluate.metrics import scores


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400)
    features = 4 * np.eye(5, 12)[labels] + rng.normal(size=(400, 12))
    labels[:20] = -1
    return make_store(tmp_path_factory.mktemp("s") / "store", features.astype(np.float32), labels, bad=[30])


def test_table_centres_and_figures(store, tmp_path, capsys):
    out = tmp_path / "found.parquet"
    arguments = ["kmeans", str(store.folder), "--clusters", "5", "--seeds", "2", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["bad"], len(result["seeds"])) == (399, 1, 2)
    table = pq.read_table(out)
    assert table["key"].to_pylist() == store.keys.to_pylist()
    clusters = table["cluster"].to_pylist()
    assert [row for row, cluster in enumerate(clusters) if cluster is None] == [30]
    known = [row for row in range(20, 400) if row != 30]
    figures = scores(np.array([clusters[row] for row in known]), store.labels[known], 5)
    best = min(result["seeds"], key=lambda row: row["inertia"])
    assert best["acc"] == pytest.approx(figures["acc"])
    assert best["acc"] > 0.9
    centres = np.load(tmp_path / "found.centres.npy")
    far = np.linalg.norm(store.take(np.array([7]))[0] - centres[clusters[7]])
    assert table["distance"][7].as_py() == pytest.approx(far, rel=1e-5)
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "ACC" in shown
    assert "399 images in 5 clusters" in shown


def test_refusals(store, tmp_path, capsys):
    assert main(["kmeans", str(store.folder), "--clusters", "400"]) == 2
    assert "399 images are too few for 400 clusters" in capsys.readouterr().err
    assert main(["kmeans", str(tmp_path), "--clusters", "4"]) == 2
    assert "is not a feature store" in capsys.readouterr().err
    assert main(["kmeans", str(store.folder), "--clusters", "4", "--out", str(tmp_path / "x.txt")]) == 2
    assert "must end in .parquet or .csv" in capsys.readouterr().err
