"""tools/published.py: the plain formulation has ccscale's losses, first weights and views; both are compared."""

import json
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from conftest import small_settings, write_config
from published_formulation import Network, Pairs, Whole, transform, whole_cluster_loss, whole_instance_loss

from ccscale.config import Views
from ccscale.config.file import load_config
from ccscale.data.images.crops import whole_image
from ccscale.data.reader import SampleReader
from ccscale.loss import cluster_loss, instance_loss
from ccscale.model.network import ContrastiveClustering


@pytest.fixture
def config(shards: Path, tmp_path: Path) -> str:
    """One epoch of two steps."""
    settings = small_settings(shards, tmp_path / "unused", train__epochs=1, train__global_batch=64)
    return str(write_config(tmp_path, settings))


def test_the_published_losses_are_ccscale_s():
    rng = torch.Generator().manual_seed(0)
    before = [
        torch.randn(12, 5, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(2)
    ]  # the gradients are compared before norm and softmax: between rows of length or sum 1
    for rows, plain, ours, temperature in (
        (torch.nn.functional.normalize, whole_instance_loss, instance_loss, 0.5),
        (torch.softmax, whole_cluster_loss, cluster_loss, 1.0),
        (torch.softmax, whole_cluster_loss, cluster_loss, 0.7),
    ):
        values = [loss(*(rows(x, dim=1) for x in before), temperature) for loss in (plain, ours)]
        torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)
        gradients = [torch.autograd.grad(value, before) for value in values]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_the_published_network_begins_as_ccscale_s(config):
    settings = load_config(config)
    torch.manual_seed(4)
    plain = Network(settings).eval()
    torch.manual_seed(4)
    ours = ContrastiveClustering(settings.model, settings.views.size).eval()
    x = torch.rand(4, 3, 16, 16)
    z_a, z_b, p_a, _ = plain(x, x.flip(0))
    torch.testing.assert_close(z_a, ours(x).embeddings)
    torch.testing.assert_close(z_b, ours(x.flip(0)).embeddings)
    torch.testing.assert_close(p_a, ours(x).assignments)


def test_the_published_views_have_the_config_s_settings(manifest):
    on = Views(size=16, rotate=30, zoom=(0.8, 1.2), blur=0.5, blur_kernel=3, crop_scale=(0.3, 0.9), flip=0.25)
    crop, affine, flip, _, _, blur, _ = transform(on).transforms
    assert (crop.size, crop.scale, affine.degrees, affine.scale) == (
        (16, 16),
        (0.3, 0.9),
        [-30, 30],
        (0.8, 1.2),
    )
    assert (flip.p, blur.p, blur.transforms[0].kernel_size) == (0.25, 0.5, (3, 3))
    off = Views(size=16, crop_scale=None, flip=0, jitter=0, grey=0, scaled_decode=False)
    (x_a, x_b), (x, label) = Pairs(manifest, ["train"], off)[7], Whole(manifest, ["train"], 16)[7]
    sample = SampleReader(manifest, ["train"])[7]
    wanted = whole_image(sample.data, 16, scaled_decode=False)
    for view in (x_a, x_b, x):
        np.testing.assert_array_equal((view * 255).round().permute(1, 2, 0).numpy(), wanted)
    assert label == sample.label


@pytest.mark.parametrize("override", ["train.precision=bf16", "views.raw=1", "loss.cluster_weight=0"])
def test_what_the_published_formulation_lacks_is_refused(override, config, tmp_path, capsys):
    command = [config, override, "--out", str(tmp_path / "out")]
    assert published.main(command) == 2
    assert override.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_both_formulations_are_compared(config, tmp_path, capsys):
    """A cell in a process of its own, too."""
    command = [config, "--seeds", "5", "--out", str(tmp_path / "out")]
    assert published.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(run["by"], run["seed"], run["steps"]) for run in found["runs"]] == [
        ("published", 5, 2),
        ("ccscale", 5, 2),
    ]
    for run in found["runs"]:
        assert run["seconds"] > 0
        assert 0.33 < run["acc"] < 0.8
        assert found["summary"][run["by"]]["acc"] == {"mean": run["acc"], "spread": None}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("seed=5.json")}
    assert len(before) == 2
    assert published.main(command) == 0  # again: nothing is done
    said = capsys.readouterr().out
    assert "published" in said
    assert "What is not the same" in said
    assert before == {path: path.stat().st_mtime_ns for path in before}
