"""Names by words: images vote, by a CLIP model of random weights whose features of images are those of texts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_settings, write_config
from harness.stores import make_store
from safetensors.torch import save_file

from ccscale.cli.main import main
from ccscale.errors import InputError
from ccscale.evaluate.cluster_names import ClusterNames
from ccscale.evaluate.name_suggestions import read_words, top_words
from ccscale.features.store_config import BACKBONE

WORDS = ["cats", "red cars", "houses", "eels"]
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def test_votes_become_suggestions():
    votes = np.array([[0, 3, 1, 0], [0, 0, 0, 0], [2, 2, 2, 2]])
    found = top_words(votes, WORDS)
    assert list(found) == [0, 2]
    assert (found[0].images, found[0].words) == (4, (("red cars", 0.75), ("houses", 0.25)))
    assert found[2].words == (("cats", 0.25), ("red cars", 0.25), ("houses", 0.25))


def test_a_file_of_words(tmp_path):
    (tmp_path / "words").write_text("\ufeffcats\n\n red cars \ncats\n", encoding="utf-8")
    assert read_words(tmp_path / "words") == ["cats", "red cars"]
    (tmp_path / "words").write_text("cats\n")
    with pytest.raises(InputError, match="at least two"):
        read_words(tmp_path / "words")


def test_what_is_missing_is_told(run, tmp_path, refused):
    assert "need --words FILE" in refused("name", run, "--take", ".5")
    assert "give --clip MODEL and --weights FILE" in refused("name", run, "--words", tmp_path / "words")


@pytest.mark.slow
@pytest.mark.parametrize("width", [64, 16], ids=["as timm gives them", "projected"])
def test_planted_words_are_found(tmp_path, capsys, width):
    """Images of word w have the features that CLIP's projection takes to w's text."""
    open_clip = pytest.importorskip("open_clip")
    config, weights, words = tmp_path / "tiny-clip.json", tmp_path / "clip.pt", tmp_path / "words.txt"
    config.write_text(json.dumps(TINY))
    words.write_text("\n".join(WORDS))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    clip = open_clip.create_model("tiny-clip").eval()
    torch.save(clip.state_dict(), weights)
    with torch.inference_mode():
        sentences = [f"a photo of a {word}" for word in WORDS]
        texts = clip.encode_text(open_clip.get_tokenizer("tiny-clip")(sentences), normalize=True).float()
        planted = texts @ torch.linalg.pinv(clip.visual.proj) if width == 64 else texts
    rng, of = np.random.default_rng(0), np.arange(240) % 4
    spread = 0.02 * (planted - planted.mean(dim=0)).std().item()
    features = planted.numpy()[of] + spread * rng.normal(size=(240, width))
    store = make_store(tmp_path / "store", [features.astype(np.float32)] * 3, of, bad=[5])
    run = tmp_path / "run"
    settings = small_settings(Path(), run, train__max_steps=3) | {"views": {}}
    settings |= {"data": {"features": str(store.folder)}, "model": {"clusters": 4, "begin": ["features"]}}
    assert main(["train", str(write_config(tmp_path, settings))]) == 0
    asked = ["name", str(run), "--words", str(words), "--clip", str(config), "--weights", str(weights)]
    capsys.readouterr()
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["by_words"]
    assert sum(one["images"] for one in found.values()) == 239
    votes = dict.fromkeys(WORDS, 0.0)
    for one in found.values():
        for word, part in one["words"].items():
            votes[word] += part * one["images"]
    assert [round(votes[word]) for word in WORDS] == [60, 59, 60, 60]
    assert ClusterNames.load(run) is None

    assert main([*asked, "--take", "0", "0=mine"]) == 0
    names = ClusterNames.load(run)
    assert names.names[0] == "mine"
    for cluster, one in found.items():
        assert names.names[int(cluster)] == ("mine" if cluster == "0" else next(iter(one["words"])))
    wrong = make_store(tmp_path / "wrong", np.ones((240, 5), np.float32), of, bad=[5]).folder
    capsys.readouterr()
    assert main([*asked, "--store", str(wrong)]) == 2
    assert "they are of another model" in capsys.readouterr().err

    tower = clip.visual.conv1.weight.detach().clone()
    for tensor, code, told in (
        (tower, 0, ""),
        (tower + 1, 2, "was not made with the image tower of this CLIP model"),
    ):
        save_file({"backbone.patch_embed.proj.weight": tensor}, store.folder / BACKBONE)
        assert main(asked) == code
        assert told in capsys.readouterr().err
