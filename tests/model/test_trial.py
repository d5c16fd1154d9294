"""What does not fit is told when a network is built, before it is given memory."""

import pytest
import torch
from torch import nn

from ccscale.config import Model
from ccscale.errors import InputError
from ccscale.model.backbone import build_backbone
from ccscale.model.network import ContrastiveClustering
from ccscale.model.trial import try_backbone

SIZE = 32


def model(backbone: str = "test_resnet", **settings) -> Model:
    return Model(**{"backbone": backbone, "clusters": 3} | settings)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("test_resnet", 96),
        ("test_efficientnet", 256),
        ("test_vit", 64),
        ("mobilenetv3_small_050", 1024),  # wider behind the pool than before it
    ],
)
def test_feature_width(name, width):
    backbone = build_backbone(model(name), SIZE).eval()
    assert try_backbone(model(name), SIZE).width == width
    assert backbone(torch.zeros(2, 3, SIZE, SIZE)).shape == (2, width)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("crossvit_tiny_240", 32, "set views.size=240, or choose another one (model.backbone)"),
        ("halonet26t", 224, "set views.size=256, or choose another one (model.backbone)"),
        ("halonet26t", 100, "set views.size=256, or choose another one (model.backbone)"),
        ("vgg11", 16, "set views.size=224, or choose another one (model.backbone)"),
    ],
)
def test_a_size_that_a_backbone_does_not_take(name, size, message):
    with pytest.raises(InputError) as caught:
        ContrastiveClustering(model(name), size)
    start = f"the backbone '{name}' does not accept images of {size} pixels ("
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(f"): {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "gives"),
    [
        (lambda x: x, f"gives (m, 3, {SIZE}, {SIZE}) for (m, 3, {SIZE}, {SIZE})"),
        (lambda x: x.flatten(2).mT, f"gives (m, {SIZE**2}, 3) for"),
        (lambda x: (x, x), "gives a tuple,"),
        (lambda x: {"features": x}, "gives a dict,"),
        (lambda x: x.mean((0, 2, 3))[None], "gives (m, 3)"),
    ],
)
def test_what_is_no_feature_is_told(answer, gives, monkeypatch):
    class Other(nn.Module):
        def forward(self, x):
            return answer(x)

    monkeypatch.setattr("ccscale.model.trial.create_backbone", lambda *_, **__: Other())
    with pytest.raises(InputError) as caught:
        try_backbone(model("test_resnet", embedding=77), SIZE)
    assert gives in str(caught.value)
    assert "features (m, D) are needed: choose another one (model.backbone)" in str(caught.value)


def test_it_changes_no_weights():
    """Nor the numbers that they are drawn from."""
    for name in ("test_resnet", "test_vit", "test_convnext"):
        torch.manual_seed(3)
        expected = build_backbone(model(name), SIZE).state_dict()
        torch.manual_seed(3)
        try_backbone(model(name, clusters=17), SIZE)
        found = build_backbone(model(name), SIZE).state_dict()
        assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_nothing_is_downloaded_for_what_does_not_fit(monkeypatch):
    monkeypatch.setattr("ccscale.model.network.build_backbone", lambda *_: pytest.fail("it was built"))
    with pytest.raises(InputError, match="does not accept images of 32 pixels"):
        ContrastiveClustering(model("halonet26t", pretrained=True), SIZE)
