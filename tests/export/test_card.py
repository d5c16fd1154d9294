"""A model card tells what is known of an export, as Hugging Face's own client reads it, and what is not."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import small_settings
from huggingface_hub import ModelCard

from ccscale.cli.main import main
from ccscale.config import Config, Model
from ccscale.evaluate.basis import weights_of
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.export.card import Card, seen
from ccscale.export.export import export_run

FIGURES = {
    "splits": ["train"],
    "images": 150,
    "labelled": 150,
    "acc": 0.71234,
    "nmi": 0.5,
    "ari": 0.4,
    "information": 1.25,
    "stability": {"stability": 0.8},
    "k_means": {"acc": 0.6},
}


def exported(run: Path, out: Path, **options) -> ModelCard:
    export_run(run, out, **options)
    return ModelCard((out / "README.md").read_text(encoding="utf-8"))


def test_what_is_not_known_is_said(run, tmp_path):
    card = exported(run, tmp_path / "mine")
    assert card.data.license == "unknown"
    assert card.data.library_name == "ccscale"
    assert card.data.eval_results is None
    assert "# mine\n\nPuts images into 6 clusters" in card.text
    assert "random numbers: they have seen nothing" in card.text
    assert 'network = ccscale.load("mine")' in card.text
    assert "Not evaluated" in card.text
    assert "`folder`, splits train" in card.text
    assert str(tmp_path) not in card.content


def test_figures_of_this_network_and_of_no_other(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    found = run_and_checkpoint(folder)[1]
    basis = {"step": found.step, "weights": weights_of(found), "splits": ["train"], "data": "x"}
    (folder / "evaluation.json").write_text(json.dumps(FIGURES | {"basis": basis}))
    card = exported(folder, tmp_path / "out", license="mit")
    assert card.data.license == "mit"
    scores = {score.metric_type: score.metric_value for score in card.data.eval_results}
    assert scores == {"acc": 0.7123, "nmi": 0.5, "ari": 0.4}
    assert {score.dataset_name for score in card.data.eval_results} == {"folder"}
    assert "On 150 images of the splits train, 150 of them with a label." in card.text
    assert "of k-means on the same features | 0.600 |" in card.text
    assert "| stability (kappa of two views) | 0.800 |" in card.text
    (folder / "evaluation.json").write_text(json.dumps(FIGURES | {"basis": basis | {"weights": "another"}}))
    assert "Not evaluated" in exported(folder, tmp_path / "again").text


@pytest.mark.parametrize(
    ("settings", "told", "base"),
    [
        ({"backbone": "resnet18.a1_in1k", "pretrained": True}, "`resnet18.a1_in1k`", "timm/resnet18.a1_in1k"),
        (
            {"backbone": "resnet18", "weights": "/home/me/mine.safetensors"},
            "in a file `mine.safetensors`",
            None,
        ),
        (
            {"backbone": "tf_efficientnet_lite0", "weights": "efficientnet-lite0"},
            "on the labels of ImageNet-1k",
            None,
        ),
    ],
)
def test_what_the_first_weights_have_seen(settings, told, base):
    config = Config.model_validate(small_settings(Path("shards"), Path("run")))
    config = config.model_copy(update={"model": Model(clusters=4, **settings)})
    assert told in seen(config)
    card = ModelCard(Card("x", "safetensors", config, {"data": "größer"}, 4, 96, {}).text())
    assert card.data.base_model == base
    assert "/home/me" not in card.content


def test_nothing_is_left_where_it_ends_early(run, tmp_path, refused):
    (tmp_path / "out").mkdir()
    assert refused("export", run, tmp_path / "out") == f"{tmp_path}/out already exists; choose a new folder"
    assert refused("export", run, tmp_path / "new", "--clusters", "5").startswith(
        "there is no head with 5 clusters"
    )
    assert main(["export", str(run), str(tmp_path / "new")]) == 0
