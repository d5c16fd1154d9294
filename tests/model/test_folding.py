"""Batch norm is folded into convolutions where that gives the same, and nowhere else."""

import pytest
import timm
import torch
from torch import nn

from ccscale.config import Model
from ccscale.model.backbone import build_backbone
from ccscale.model.folding import folded
from ccscale.model.norm import use_global_batch_norm

SIZE = 32


def used(name: str) -> nn.Module:
    """A backbone whose statistics are not those of a new one."""
    torch.manual_seed(0)
    module = build_backbone(Model(backbone=name, clusters=2), SIZE).train()
    for _ in range(3):
        module(torch.randn(4, 3, SIZE, SIZE))
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "resnet10t"])
def test_it_gives_the_same(name):
    module = used(name)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    quick = folded(module, SIZE)
    images = torch.rand(3, 3, SIZE, SIZE)
    assert norms(module) > 0
    assert norms(quick) == 0
    assert torch.allclose(quick(images), module(images), atol=1e-5, rtol=1e-4)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_the_norm_of_a_run():
    module = use_global_batch_norm(used("test_resnet"))
    images = torch.rand(3, 3, SIZE, SIZE)
    assert torch.allclose(folded(module, SIZE)(images), module(images), atol=1e-5, rtol=1e-4)


def test_where_there_is_none():
    module = timm.create_model("test_vit", num_classes=0, img_size=SIZE).eval()
    assert folded(module, SIZE) is module


class BeforeTheConvolution(nn.Module):
    """What is defined after a convolution comes before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(torch.relu(self.norm(images)))).mean((2, 3))


def test_another_order():
    module = BeforeTheConvolution().train()
    module(torch.randn(8, 3, SIZE, SIZE) + 2)
    assert folded(module.eval(), SIZE) is module


@pytest.mark.parametrize(("size", "stays"), [(64, False), (36, True)])
def test_padding_at_the_end_alone(size, stays):
    """TensorFlow's models pad so; 36 px become 9 in the network, an odd side, which is padded on both."""
    module = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    quick, images = folded(module, size), torch.rand(2, 3, size, size)
    assert torch.allclose(quick(images), module(images), atol=1e-5, rtol=1e-4)
    assert any(isinstance(part, timm.layers.Conv2dSame) for part in quick.modules()) is stays
    assert norms(quick) == 0
