"""``ccscale how-many``: one sentence, each criterion's vote, a picture; labels change nothing."""

import json

import numpy as np
import pytest
from harness.stores import make_store
from PIL import Image

from ccscale.cli.main import main
from ccscale.evaluate.criteria import CRITERIA

CLUSTERS = 5


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    places = 4 * np.eye(CLUSTERS, 12)[rng.integers(0, CLUSTERS, 160)]
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


def test_refusals(features, tmp_path, capsys):
    few = make_store(tmp_path / "few", features[:59])
    assert main(["how-many", str(few.folder)]) == 2
    assert "has 59 images, too few to advise on a number of clusters" in capsys.readouterr().err
    assert main(["how-many", str(few.folder), "--picture", str(tmp_path / "none/x.png")]) == 2
    assert "make it first" in capsys.readouterr().err
