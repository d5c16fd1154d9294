"""``ccscale how-many``: one sentence, each criterion's vote, a picture; labels change nothing."""

import json

import numpy as np
import pytest
from harness.stores import make_store
from PIL import Image

from ccscale.cli.main import main
from ccscale.cli.results import show_advice
from ccscale.evaluate.basis import Basis
from ccscale.evaluate.criteria import CRITERIA
from ccscale.evaluate.how_many import advise_run, read_advice

CLUSTERS = 4


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    places = 4 * np.eye(CLUSTERS, 12)[rng.integers(0, CLUSTERS, 120)]
    return (places + rng.normal(size=places.shape)).astype(np.float32)


def test_for_programs_and_for_people(features, tmp_path, capsys):
    store = make_store(tmp_path / "store", features)
    picture = tmp_path / "curves.png"
    assert main(["how-many", str(store.folder), "--picture", str(picture), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["low"] <= CLUSTERS <= told["high"]
    assert told["seen"]
    assert [vote["criterion"] for vote in told["votes"]] == list(CRITERIA)
    assert all(len(vote["values"]) == len(vote["null"]) == len(told["tried"]) for vote in told["votes"])
    with Image.open(picture) as drawn:
        assert drawn.width <= 480
    labelled = make_store(tmp_path / "labelled", features, np.arange(len(features)) % 2)
    assert main(["how-many", str(labelled.folder)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(told["sentence"][:40])
    assert "merging" in shown


def test_heads_of_several_k_are_told(features, tmp_path, capsys):
    heads = [(5, 0.80, True), (10, 0.79, True), (10, 0.99, False), (20, 0.50, True)]
    table = [{"clusters": k, "stability": kappa, "chosen": chosen} for k, kappa, chosen in heads]
    basis = Basis(3, "weights", ("train",), "data")
    told = advise_run(tmp_path, basis, "backbone", features[:60], 0, table)
    assert [(row["clusters"], row["stability"]) for row in told["heads"]] == [(5, 0.8), (10, 0.79), (20, 0.5)]
    assert told["heads_vote"] == 10
    show_advice(told)
    assert "heads vote for 10 (not counted)" in capsys.readouterr().out
    assert read_advice(tmp_path, basis) == json.loads(json.dumps(told))


def test_refusals(features, tmp_path, capsys):
    few = make_store(tmp_path / "few", features[:59])
    assert main(["how-many", str(few.folder)]) == 2
    assert "has 59 images, too few for advice on the number of clusters" in capsys.readouterr().err
    assert main(["how-many", str(few.folder), "--picture", str(tmp_path / "none/x.png")]) == 2
    assert "create it first" in capsys.readouterr().err
