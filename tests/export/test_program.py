"""An exported program answers as `predict` does, whatever the images' sizes and number."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from harness.pictures import picture
from PIL import Image

from ccscale.cli.main import main
from ccscale.config import Model, Views
from ccscale.errors import Fault, InputError
from ccscale.export import program
from ccscale.export.program import write_program
from ccscale.model.network import ContrastiveClustering

CLOSE = 1e-4


def predicted(run: Path, images: Path, out: Path) -> dict[str, list]:
    arguments = ["--images", str(images), "--features", "backbone", "--workers", "0", "--out", str(out)]
    assert main(["predict", str(run), *arguments]) == 0
    return pq.read_table(out).to_pydict()


def save_images(folder: Path, count: int) -> Path:
    """Write pictures of many sizes, as PNG."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        size = tuple(rng.integers(1, 120, 2).tolist()) if i % 2 else (40, 30)
        picture(i).convert("RGB").resize(size).save(folder / f"{i:04d}.png")
    return folder


@pytest.mark.slow
def test_torch_export(run, tmp_path, capsys):
    rows = predicted(run, save_images(tmp_path / "images", 12), tmp_path / "p.parquet")
    assert main(["export", str(run), str(tmp_path / "out"), "--format", "torch-export"]) == 0
    assert "model.pt2 takes images" in capsys.readouterr().out
    told = json.loads((tmp_path / "out/config.json").read_text())
    assert (told["format"], told["version"], told["clusters"]) == ("ccscale-torch-export", 1, 6)
    assert 'torch.export.load("out/model.pt2")' in (tmp_path / "out/README.md").read_text()
    network = torch.export.load(tmp_path / "out/model.pt2").module()
    for i, origin in enumerate(rows["origin"]):
        images = torch.from_numpy(np.array(Image.open(origin)))[None]
        cluster, confidence, features = network(images)
        assert int(cluster) == rows["cluster"][i]
        assert float(confidence) == pytest.approx(rows["confidence"][i], abs=CLOSE)
        assert np.allclose(features[0], rows["features"][i], atol=CLOSE)
    same = torch.from_numpy(np.array(Image.open(rows["origin"][0])))[None]
    assert torch.equal(network(same.repeat(5, 1, 1, 1))[0], network(same)[0].repeat(5))


@pytest.mark.slow
def test_onnx_on_a_thousand_images(run, tmp_path):
    session_of = pytest.importorskip(
        "onnxruntime", reason="the extra `onnx` is not installed"
    ).InferenceSession
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    rows = predicted(run, save_images(tmp_path / "images", 1000), tmp_path / "p.parquet")
    assert main(["export", str(run), str(tmp_path / "out"), "--format", "onnx"]) == 0
    session = session_of(tmp_path / "out/model.onnx")
    assert [each.name for each in session.get_inputs()] == ["images"]
    names = ["cluster", "confidence", "features"]
    assert [each.name for each in session.get_outputs()] == names
    answers = [session.run(names, {"images": np.array(Image.open(file))[None]}) for file in rows["origin"]]
    cluster, confidence, features = (np.concatenate(column) for column in zip(*answers, strict=True))
    assert cluster.tolist() == rows["cluster"]
    assert np.abs(confidence - rows["confidence"]).max() < CLOSE
    assert np.abs(features - np.array(rows["features"])).max() < CLOSE
    assert session.run(names, {"images": np.zeros((7, 9, 20, 3), np.uint8)})[2].shape == (
        7,
        features.shape[1],
    )


def make(**settings) -> ContrastiveClustering:
    torch.manual_seed(0)
    return ContrastiveClustering(Model(**({"backbone": "test_vit", "clusters": 4} | settings)), 32).eval()


@pytest.mark.slow
def test_a_transformer_with_its_own_mean(tmp_path):
    write_program(make(normalize=True), tmp_path / "model.pt2", "torch-export")  # which compares them


def test_a_program_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    network = make(backbone="test_resnet")
    wrong = (np.zeros(2), np.full(1, 0.9), np.zeros((1, network.width)))
    monkeypatch.setattr(program, "_write_torch", lambda served, path: lambda images: wrong)
    with pytest.raises(Fault, match="exported as torch-export, 'test_resnet' gives different results,"):
        write_program(network, tmp_path / "model.pt2", "torch-export")

    def fail(served, path):
        raise ValueError("no such thing\nand more")

    monkeypatch.setattr(program, "_write_torch", fail)
    with pytest.raises(
        Fault, match=r"'test_resnet' cannot be exported as torch-export: no such thing; --format"
    ):
        write_program(network, tmp_path / "model.pt2", "torch-export")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        program, "find_spec", lambda name: None if name == "onnxruntime" else find_spec("json")
    )
    with pytest.raises(InputError) as caught:
        write_program(make(backbone="test_resnet"), tmp_path / "model.onnx", "onnx")
    assert str(caught.value) == (
        "--format onnx needs onnxruntime, not installed here: pip install 'ccscale[onnx]'"
    )
    settings = Model(backbone="test_resnet", clusters=4)
    with pytest.raises(InputError, match="takes features, not images"):
        write_program(ContrastiveClustering(settings, Views().size, 7), tmp_path / "model.onnx", "onnx")
