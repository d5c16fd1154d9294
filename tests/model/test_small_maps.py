"""Convolutions of small maps as matrix products: the same values and gradients as PyTorch's own."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ccscale.config import Model
from ccscale.model.backbone import build_backbone
from ccscale.model.small_maps import SmallMapConv2d, multiply_small_maps


class Operations(TorchDispatchMode):
    """Counts the calls of each operation."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "product"),
    [
        ((1, 1), 3, 1, 1, True),
        ((2, 2), 3, 2, 1, True),
        ((2, 2), 3, 1, 1, False),  # a larger matrix than the kernel
        ((1, 2), 3, 1, 1, True),
        ((1, 1), 1, 1, 0, True),
        ((1, 1), 1, 2, 0, True),
        ((4, 4), 7, 2, 3, False),
        ((5, 5), 7, 2, 3, False),  # the last row of the output sees four of five
        ((3, 3), 7, 2, 3, True),
        ((4, 4), 4, 4, 0, True),  # one patch
        ((5, 5), 4, 4, 0, False),  # a patch, and a row that none sees
        ((3, 3), 3, 1, 1, False),
        ((3, 3), 3, 4, 1, False),  # one place, which sees two of three
        ((2, 3), 3, 1, 1, False),
        ((2, 1), (3, 1), (1, 1), (1, 0), False),
    ],
)
def test_a_convolution_of_a_small_map_is_the_same(size, kernel, stride, padding, product, bias):
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 5, kernel, stride, padding, bias=bias).double()
    mine = copy.deepcopy(plain)
    multiply_small_maps(mine)
    x = torch.randn(7, 6, *size, dtype=torch.float64)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    with Operations() as operations:
        outputs = [plain(inputs[0])]
        before = operations.names.count("convolution")
        outputs.append(mine(inputs[1]))
    assert (operations.names.count("convolution") == before) is product
    assert outputs[1].shape == outputs[0].shape
    seen = torch.randn_like(outputs[0])
    for output in outputs:
        (output * seen).sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for theirs, own in zip(plain.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad)


def test_a_backbone_is_made_of_them():
    backbone = build_backbone(Model(backbone="resnet10t", clusters=2), 32)
    assert any(isinstance(module, SmallMapConv2d) for module in backbone.modules())


def test_an_exported_program_keeps_its_convolutions():
    convolution = nn.Conv2d(2, 2, 3, padding=1)
    multiply_small_maps(convolution)
    program = torch.export.export(convolution, (torch.randn(3, 2, 1, 1),))
    assert "conv2d" in str(program.graph)


def test_convolutions_that_pad_or_group_otherwise_stay():
    kept = [
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
    ]
    plain = nn.Conv2d(4, 4, 3)
    multiply_small_maps(nn.ModuleList([*kept, plain]))
    assert not any(isinstance(module, SmallMapConv2d) for module in kept)
    assert isinstance(plain, SmallMapConv2d)


def test_a_network_keeps_its_channels_last():
    network = nn.Conv2d(8, 8, 7, stride=2, padding=3)
    multiply_small_maps(network)
    network.to(memory_format=torch.channels_last)
    images = torch.randn(4, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    assert network(images).shape == (4, 8, 2, 2)
    assert network(images).is_contiguous(memory_format=torch.channels_last)
