"""Backbones: names, the stem for small images, weights from files and timm's hub."""

from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ccscale.config import Model, Views
from ccscale.errors import InputError
from ccscale.model.backbone import build_backbone
from ccscale.model.export import export
from ccscale.model.network import ContrastiveClustering

SIZE = 32


def model(backbone: str = "test_resnet", **settings) -> Model:
    return Model(**{"backbone": backbone, "clusters": 3} | settings)


def saved(path: Path, backbone: nn.Module) -> dict[str, torch.Tensor]:
    """Write a backbone's state dict, contents made unlike any initialisation; return it."""
    weights = {
        name: torch.full_like(value, i + 1.0) if value.is_floating_point() else value + 7
        for i, (name, value) in enumerate(backbone.state_dict().items())
    }
    save_file(weights, path)
    return weights


def same(found: nn.Module, weights: dict[str, torch.Tensor], but: tuple[str, ...] = ()) -> None:
    state = found.state_dict()
    assert len(state) > len(but)
    for name, value in state.items():
        if name not in but:
            assert torch.equal(value, weights[name]), name


class TestNames:
    def test_unknown_name_has_near_ones(self):
        with pytest.raises(InputError) as caught:
            build_backbone(model("resnet35"), SIZE)
        message = str(caught.value)
        assert message.startswith("timm has no model 'resnet35' (model.backbone); did you mean 'resnet")
        assert "\n" not in message

    def test_unknown_name_without_near_ones(self):
        with pytest.raises(InputError, match=r"timm has no model 'xyzzy' \(model.backbone\); `python -c"):
            build_backbone(model("xyzzy"), SIZE)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "test_resnet.r160_in2k",
                "'r160_in2k' of 'test_resnet' (model.backbone); did you mean 'r160_in1k'?",
            ),
            ("test_resnet.", "'' of 'test_resnet' (model.backbone); it has r160_in1k"),
        ],
    )
    def test_a_wrong_tag(self, name, message):
        with pytest.raises(InputError) as caught:
            build_backbone(model(name), SIZE)
        assert str(caught.value) == f"timm has no weights {message}; 'test_resnet' alone takes timm's choice"

    def test_name_with_a_tag(self):
        backbone = build_backbone(model("test_resnet.r160_in1k"), SIZE)
        assert (backbone.num_features, backbone.pretrained_cfg["tag"]) == (96, "r160_in1k")


def test_vision_transformer_at_another_size():
    """timm makes it for 224 pixels and no other size, unless told."""
    for size, places in ((32, 4), (96, 36)):
        backbone = build_backbone(model("vit_tiny_patch16_224"), size).eval()
        assert backbone.pos_embed.shape == (1, 1 + places, 192)
        assert backbone(torch.zeros(1, 3, size, size)).shape == (1, 192)


class TestSmallStem:
    @pytest.mark.parametrize(
        ("name", "first", "standard", "small"),
        [
            ("test_resnet", "conv1.0", 1, 4),
            ("resnet10t", "conv1.0", 1, 4),
            ("test_efficientnet", "conv_stem", 1, 2),
        ],
    )
    def test_resolution(self, name, first, standard, small):
        """A stride of 2 and a pool of stride 2 less: four times the resolution where there are both."""
        images = torch.zeros(1, 3, SIZE, SIZE)
        before = build_backbone(model(name), SIZE).eval()
        after = build_backbone(model(name, stem="small"), SIZE).eval()
        assert before.forward_features(images).shape[2:] == (standard, standard)
        assert after.forward_features(images).shape[2:] == (small, small)
        convolution, replaced = after.get_submodule(first), before.get_submodule(first)
        assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (1, 1))
        assert convolution.out_channels == replaced.out_channels
        assert (convolution.bias is None) == (replaced.bias is None)
        assert not any(isinstance(child, nn.MaxPool2d) for child in after.modules())

    def test_initialisation_is_he_s(self):
        torch.manual_seed(0)
        weight = build_backbone(model("resnet18", stem="small"), SIZE).conv1.weight
        assert weight.shape == (64, 3, 3, 3)
        assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)

    def test_learns(self):
        """Nothing of the replaced stem is left behind in the computation."""
        backbone = build_backbone(model("resnet10t", stem="small"), SIZE)
        backbone(torch.rand(4, 3, SIZE, SIZE)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in backbone.parameters())

    def test_vision_transformer_has_none(self):
        with pytest.raises(
            InputError, match=r"'test_vit' does not begin with a convolution; use model\.stem=standard"
        ):
            build_backbone(model("test_vit", stem="small"), SIZE)


class TestWeightsFromAFile:
    def test_bare(self, tmp_path):
        weights = saved(tmp_path / "w.safetensors", timm.create_model("test_resnet", num_classes=0))
        same(build_backbone(model(weights=str(tmp_path / "w.safetensors")), SIZE), weights)

    def test_with_a_classifier(self, tmp_path):
        """A file as timm keeps it: the classifier is left out."""
        weights = saved(tmp_path / "w.safetensors", timm.create_model("test_resnet", num_classes=10))
        assert "fc.weight" in weights
        same(build_backbone(model(weights=str(tmp_path / "w.safetensors")), SIZE), weights)

    @pytest.mark.parametrize("stem", ["standard", "small"])
    def test_from_an_export(self, tmp_path, stem):
        settings = model(stem=stem)
        network = ContrastiveClustering(settings, SIZE)
        export(tmp_path, settings, Views(size=SIZE), network.state_dict(), {})
        torch.manual_seed(123)
        backbone = build_backbone(model(stem=stem, weights=str(tmp_path / "model.safetensors")), SIZE)
        same(backbone, network.backbone.state_dict())

    def test_small_stem_over_weights_of_the_standard_one(self, tmp_path):
        """The stem has no counterpart in the file; all else is taken from it."""
        weights = saved(tmp_path / "w.safetensors", timm.create_model("resnet18", num_classes=0))
        backbone = build_backbone(
            model("resnet18", stem="small", weights=str(tmp_path / "w.safetensors")), SIZE
        )
        same(backbone, weights, but=("conv1.weight",))
        assert backbone.conv1.weight.shape == (64, 3, 3, 3)

    def test_standard_stem_over_weights_of_the_small_one(self, tmp_path):
        """A stem with random weights is not what was asked for."""
        saved(tmp_path / "w.safetensors", build_backbone(model("resnet18", stem="small"), SIZE))
        with pytest.raises(InputError, match=r"1 of its 120 tensors .* first 'conv1.weight'"):
            build_backbone(model("resnet18", weights=str(tmp_path / "w.safetensors")), SIZE)

    def test_other_shapes(self, tmp_path):
        path = tmp_path / "w.safetensors"
        weights = saved(path, timm.create_model("test_resnet", num_classes=0))
        weights["layer1.0.bn1.weight"] = torch.zeros(5)
        del weights["layer2.0.bn1.bias"]
        save_file(weights, path)
        with pytest.raises(InputError) as caught:
            build_backbone(model(weights=str(path)), SIZE)
        assert str(caught.value) == (
            f"{path} does not fit the backbone (model.weights): 2 of its {len(weights) + 1} tensors are "
            "missing or have another shape, first 'layer1.0.bn1.weight'"
        )

    def test_of_another_backbone(self, tmp_path):
        saved(tmp_path / "w.safetensors", timm.create_model("test_vit", num_classes=0))
        with pytest.raises(InputError, match="does not fit the backbone"):
            build_backbone(model(weights=str(tmp_path / "w.safetensors")), SIZE)

    def test_missing_and_damaged(self, tmp_path):
        path = tmp_path / "w.safetensors"
        with pytest.raises(InputError, match=r"there is no file .*/w.safetensors \(model.weights\)"):
            build_backbone(model(weights=str(path)), SIZE)
        for data in (b"", b"nothing of the kind", bytes(100)):
            path.write_bytes(data)
            with pytest.raises(InputError, match=r"w.safetensors is not a safetensors file") as caught:
                build_backbone(model(weights=str(path)), SIZE)
            assert "\n" not in str(caught.value)


class TestPretrained:
    @pytest.fixture
    def hub(self, tmp_path, monkeypatch) -> Path:
        """An empty cache of the Hugging Face hub, and no network."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return tmp_path

    def put(self, hub: Path, name: str) -> dict[str, torch.Tensor]:
        """Put weights of a timm model into the cache, as a download leaves them."""
        repository = timm.get_pretrained_cfg(name).hf_hub_id.replace("/", "--")
        revision = "0123456789abcdef0123456789abcdef01234567"
        snapshot = hub / f"models--{repository}" / "snapshots" / revision
        snapshot.mkdir(parents=True)
        references = hub / f"models--{repository}" / "refs"
        references.mkdir()
        (references / "main").write_text(revision)
        return saved(snapshot / "model.safetensors", timm.create_model(name))

    def test_weights_come_from_the_hub(self, hub):
        weights = self.put(hub, "test_resnet")
        same(build_backbone(model(pretrained=True), SIZE), weights)

    def test_not_unless_asked_for(self, hub):
        weights = self.put(hub, "test_resnet")
        backbone = build_backbone(model(pretrained=False), SIZE)
        assert not torch.equal(
            backbone.state_dict()["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"]
        )

    def test_small_stem_over_pretrained_weights(self, hub):
        weights = self.put(hub, "test_resnet")
        backbone = build_backbone(model(pretrained=True, stem="small"), SIZE)
        same(backbone, weights, but=("conv1.0.weight",))
        assert backbone.conv1[0].stride == (1, 1)

    def test_vision_transformer_at_another_size(self, hub):
        """The embeddings of the places are resampled; these are equal, and stay so."""
        weights = self.put(hub, "test_vit")
        backbone = build_backbone(model("test_vit", pretrained=True), SIZE)
        same(backbone, weights, but=("pos_embed",))
        assert backbone.pos_embed.shape[1] < weights["pos_embed"].shape[1]
        assert torch.allclose(backbone.pos_embed, weights["pos_embed"][0, 0, 0])

    def test_weights_from_a_file_win(self, hub, tmp_path):
        self.put(hub, "test_resnet")
        torch.manual_seed(5)
        own = timm.create_model("test_resnet", num_classes=0).state_dict()
        save_file(own, tmp_path / "own.safetensors")
        path = str(tmp_path / "own.safetensors")
        same(build_backbone(model(pretrained=True, weights=path), SIZE), load_file(path))

    @pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_mambaout"])
    def test_that_cannot_be_had(self, hub, name):
        with pytest.raises(InputError) as caught:
            build_backbone(model(name, pretrained=True), SIZE)
        message = str(caught.value)
        assert message.startswith(f"the pretrained weights of '{name}' are not available (")
        assert message.endswith("or give a file as model.weights=FILE.safetensors")
        assert "\n" not in message
