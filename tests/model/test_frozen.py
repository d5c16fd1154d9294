"""What is frozen of a backbone: its stages, its statistics, what autograd keeps of it."""

import pytest
import torch

from ccscale.config import Model
from ccscale.errors import InputError
from ccscale.model.network import ContrastiveClustering
from ccscale.model.norm import has_batch_norm

SIZE = 32


def network(backbone: str, freeze: str | int, **settings) -> ContrastiveClustering:
    torch.manual_seed(0)
    return ContrastiveClustering(Model(backbone=backbone, clusters=4, freeze=freeze, **settings), SIZE)


@pytest.mark.parametrize(
    ("backbone", "freeze", "frozen", "trained"),
    [
        ("test_resnet", 1, ("conv1.", "bn1.", "layer1."), ("layer2.", "layer3.", "layer4.")),
        ("test_resnet", 4, ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4."), ()),
        ("test_vit", 2, ("patch_embed.", "pos_embed", "cls_token", "blocks.0.", "blocks.1."), ("blocks.2.",)),
        ("test_efficientnet", 2, ("conv_stem", "bn1", "blocks.0.", "blocks.1."), ("blocks.2.", "conv_head")),
        ("test_resnet", "all", ("",), ()),
        ("test_resnet", "none", (), ("",)),
    ],
)
def test_stages(backbone, freeze, frozen, trained):
    net = network(backbone, freeze)
    for name in net.backbone.state_dict():
        assert (name in net.frozen.names) == name.startswith(frozen), name
    for name, parameter in net.backbone.named_parameters():
        assert parameter.requires_grad == (name not in net.frozen.names)
    for part in trained:
        assert any(name.startswith(part) for name in net.backbone.state_dict())
    assert net.frozen_names == {f"backbone.{name}" for name in net.frozen.names}


@pytest.mark.parametrize("freeze", [2, "all"])
def test_a_pass_leaves_what_is_frozen(freeze):
    """No gradient, no statistics; what is not frozen learns; nothing is kept of the pass through what is frozen."""
    net = network("test_resnet", freeze).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kept: list[tuple[int, ...]] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    images = torch.rand(6, 3, SIZE, SIZE)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = net(images)
    (outputs.embeddings.sum() + outputs.assignments.square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (name in net.frozen_names), name
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert not moved & net.frozen_names
    assert bool(moved) == (freeze != "all")  # the running statistics of later stages
    assert has_batch_norm(net) == (freeze != "all")
    sides = {shape[-1] for shape in kept if len(shape) == 4}
    assert max(sides, default=0) == (0 if freeze == "all" else SIZE // 8)  # what comes into the third stage


def test_evaluation_and_training_change_the_rest_alone():
    net = network("test_resnet", 1).eval()
    assert not any(module.training for module in net.modules())
    net.train()
    assert net.backbone.layer2.training
    assert not any(module.training for module in net.backbone.layer1.modules())


def test_drop_path_in_what_is_not_frozen():
    net = network("test_vit", 2, drop_path=0.5)
    drawn = len(network("test_vit", "none", drop_path=0.5).draws._of_each)
    assert 0 < len(net.draws._of_each) < drawn
    net.train()
    net.draws.place(0, 0, torch.arange(4))
    net(torch.rand(4, 3, SIZE, SIZE))


@pytest.mark.parametrize(
    ("backbone", "settings", "sentence"),
    [
        (
            "test_resnet",
            {"freeze": 9},
            "model.freeze is 9, but 'test_resnet' has only 4 stages after its stem: give at most 4, or all",
        ),
        (
            "test_vit",
            {"freeze": "all", "drop_path": 0.1},
            "model.drop_path is 0.1, but 'test_vit' does not use it where it is not frozen (model.freeze): leave "
            "it out",
        ),
    ],
)
def test_refusals(backbone, settings, sentence):
    with pytest.raises(InputError) as caught:
        network(backbone, **settings)
    assert str(caught.value) == sentence


def test_a_backbone_without_stages(monkeypatch):
    from timm.models import resnet

    monkeypatch.delattr(resnet.ResNet, "group_matcher")
    with pytest.raises(InputError) as caught:
        network("test_resnet", 3)
    assert (
        str(caught.value)
        == "model.freeze is 3, but timm defines no stages for 'test_resnet': set it to none or all"
    )


@pytest.mark.parametrize(
    ("backbone", "freeze"),
    [("test_resnet", 2), ("test_resnet", "all"), ("test_vit", 2), ("test_efficientnet", "all")],
)
def test_what_is_frozen_is_kept_in_bf16_where_that_is_computed_in(backbone, freeze):
    """The same losses and gradients, bit for bit; in an evaluation, too, and in float32 what comes out of it."""
    plain, kept = network(backbone, freeze).train(), network(backbone, freeze).train()
    kept.frozen = kept.frozen.kept_as(torch.bfloat16)
    images = torch.rand(4, 3, SIZE, SIZE)
    gradients = []
    for net in (plain, kept):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net(images)
        (outputs.embeddings.square() * torch.arange(128)).sum().backward()
        trained = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        gradients.append(trained | {"features": outputs.features})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
    names = kept.frozen_names
    kinds = {name: p.dtype for name, p in kept.named_parameters()}
    assert {kind for name, kind in kinds.items() if name not in names} == {torch.float32}
    assert {kind for name, kind in kinds.items() if name in names} == {torch.bfloat16, torch.float32}
    with torch.no_grad():
        found = kept.eval()(images)
        with torch.autocast("cpu", torch.bfloat16):
            expected = plain.eval()(images).features
    assert found.features.dtype == torch.float32
    assert torch.equal(found.features, expected.float())
