"""The network's outputs: shapes, lengths, sums, dtypes."""

import pytest
import torch
from torch import nn

from ccscale.config import Model
from ccscale.errors import InputError
from ccscale.model.network import ContrastiveClustering
from ccscale.model.norm import GlobalBatchNorm1d, GlobalBatchNorm2d, GlobalBatchNormAct2d

SIZE, K, D, M = 32, 5, 96, 6


def network(backbone: str = "test_resnet", **settings) -> ContrastiveClustering:
    torch.manual_seed(0)
    return ContrastiveClustering(Model(**{"backbone": backbone, "clusters": K} | settings), SIZE)


def images(m: int = M) -> torch.Tensor:
    return torch.rand(m, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("backbone", "width"), [("test_resnet", 96), ("test_vit", 64), ("mobilenetv3_small_050", 1024)]
)
def test_outputs(backbone, width, mode):
    net = network(backbone, embedding=7).train(mode == "train")
    h, z, p = net(images())
    assert (h.shape, z.shape, p.shape) == ((M, width), (M, 7), (M, K))
    assert torch.allclose(z.norm(dim=1), torch.ones(M), atol=1e-6)
    assert torch.allclose(p.sum(dim=1), torch.ones(M), atol=1e-6)
    assert (p > 0).all()
    assert len({tuple(row) for row in z.tolist()}) == M


def test_heads_are_the_paper_s():
    """Linear (D, D), ReLU, Linear (D, d or K); no batch norm."""
    net = network()
    for head, outputs in ((net.instance_head, 128), (net.cluster_head, K)):
        first, middle, last = head.layers
        assert (first.in_features, first.out_features, last.in_features) == (D, D, D)
        assert last.out_features == outputs
        assert isinstance(middle, nn.ReLU)
    h = torch.randn(3, D)
    first, _, last = net.cluster_head.layers
    expected = torch.softmax(last(torch.clamp(first(h), min=0)), dim=1)
    assert torch.allclose(net.cluster_head(h), expected, atol=1e-7)
    first, _, last = net.instance_head.layers
    raw = last(torch.clamp(first(h), min=0))
    assert torch.allclose(net.instance_head(h), raw / raw.norm(dim=1, keepdim=True), atol=1e-7)


def test_losses_get_float32_under_autocast():
    net = network()
    with torch.autocast("cpu", torch.bfloat16):
        features, z, p = net(images())
    assert features.dtype == torch.bfloat16  # the heads' own layers ran in it: else nothing was shown
    assert (z.dtype, p.dtype) == (torch.float32, torch.float32)
    # Softmax and length were computed in float32, not rounded to bfloat16's three digits.
    assert torch.allclose(z.norm(dim=1), torch.ones(M), atol=1e-6)
    assert torch.allclose(p.sum(dim=1), torch.ones(M), atol=1e-6)
    assert not torch.equal(p, p.bfloat16().float())


def test_float64_stays():
    net = network().double()
    assert {output.dtype for output in net(images().double())} == {torch.float64}


def test_normalize_is_the_backbone_s_own():
    plain, own = network().eval(), network(normalize=True).eval()
    mean, std = 0.5, 0.5  # timm's for test_resnet, which are unlike those of most models
    assert own.backbone.pretrained_cfg["mean"] == (mean,) * 3
    assert own.mean.shape == own.std.shape == (1, 3, 1, 1)
    x = images()
    assert torch.allclose(own(x).features, plain((x - mean) / std).features, atol=1e-6)
    assert not torch.allclose(own(x).features, plain(x).features, atol=1e-3)


def test_normalize_per_channel():
    net = network("resnet10t", normalize=True).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = images()
    expected = net.backbone((x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    assert torch.allclose(net(x).features, expected, atol=1e-6)


def test_mean_and_deviation_are_no_weights():
    """Weights can be taken over between runs that normalise and runs that do not."""
    assert network().state_dict().keys() == network(normalize=True).state_dict().keys()


@pytest.mark.parametrize(
    ("backbone", "kind"), [("test_resnet", GlobalBatchNorm2d), ("test_efficientnet", GlobalBatchNormAct2d)]
)
def test_every_batch_norm_is_global(backbone, kind):
    norms = [m for m in network(backbone).modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 5
    assert {type(norm) for norm in norms} == {kind}


def test_predict():
    net = network().eval()
    clusters, confidence = net.predict(images())
    p = net(images()).assignments
    assert (clusters.dtype, clusters.shape) == (torch.int64, (M,))
    assert torch.equal(clusters, p.argmax(dim=1))
    assert torch.equal(confidence, p.max(dim=1).values)
    assert not confidence.requires_grad


def test_same_seed_same_weights():
    first, second = network().state_dict(), network().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_features_take_the_second_half():
    net = network().eval()
    whole = net(images())
    half = net(whole.features)
    assert half.features is whole.features
    assert torch.equal(half.embeddings, whole.embeddings)
    assert torch.equal(half.assignments, whole.assignments)
    assert [torch.equal(p, whole.assignments) for p in whole.heads] == [True]


def test_heads_of_several_k_are_served_by_number():
    net = network(clusters=(K, 3), heads=2, embedding=7).eval()
    assert net.settings.head_clusters == (K, K, 3, 3)
    found = net(images())
    assert [p.shape[1] for p in found.heads] == [K, K, 3, 3]
    assert found.assignments is found.heads[0]
    assert net.serve(3).k == 3
    assert torch.equal(net(images()).assignments, found.heads[3])
    assert torch.equal(net.predict(images())[0], found.heads[3].argmax(dim=1))
    with pytest.raises(InputError, match="there is no cluster head 4: the network has 4, counted from 0"):
        net.serve(4)


@pytest.mark.parametrize(
    ("settings", "head"),
    [
        ({}, 0),
        ({"clusters": (4, 6)}, 1),
        ({"centres": ("embeddings", "features")}, 1),
        ({"centres": "features"}, 1),
    ],
)
def test_assignments_alone_are_those_of_the_head_that_serves(settings, head):
    """Of centres of the embeddings, too, which are made for them."""
    torch.manual_seed(0)
    net = ContrastiveClustering(Model(**{"clusters": K} | settings), SIZE, width=8).eval()
    for centres in net.centre_heads:
        nn.init.normal_(centres.centres)
    net.serve(head)
    features = torch.randn(M, 8)
    found, expected = net.assign(features), net(features)
    assert torch.equal(found[0], expected.features)
    assert torch.equal(found[1], expected.assignments)


def test_one_head_has_the_names_that_it_had_before_there_were_several():
    names = {name for name in network().state_dict() if not name.startswith("backbone.")}
    assert names == {
        f"{head}_head.layers.{layer}.{kind}"
        for head in ("instance", "cluster")
        for layer in (0, 2)
        for kind in ("weight", "bias")
    }


def test_heads_as_temi_has_them():
    """Linear - GELU - Linear, of length 1; cosines with the prototypes, over the temperature."""
    net = network(
        head_width=12, head_activation="gelu", prototypes=6, head_temperature=0.1, head_norm="batch"
    )
    first, norm, middle, last = net.cluster_head.layers
    assert (first.out_features, last.in_features, last.out_features) == (12, 12, 6)
    assert isinstance(norm, GlobalBatchNorm1d)
    assert isinstance(middle, nn.GELU)
    net.eval()
    h, w = torch.randn(4, D), net.cluster_head.prototypes.weight
    u = net.cluster_head.layers(h)
    cosines = (u / u.norm(dim=1, keepdim=True)) @ (w / w.norm(dim=1, keepdim=True)).T
    assert torch.allclose(net.cluster_head(h), (10 * cosines).softmax(dim=1), atol=1e-6)
    assert [layer.out_features for layer in network(head_depth=1).cluster_head.layers] == [K]
