"""Dropout and stochastic depth by place: any part of a batch draws what the whole batch draws for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from ccscale.config import Model
from ccscale.errors import InputError
from ccscale.model.dropout import Draws
from ccscale.model.network import ContrastiveClustering
from ccscale.model.trial import try_backbone
from ccscale.philox import philox4x32

SEED, STEP, M = 5, 2**32 + 7, 12


def draw(
    of_each: list[int | None], call: Callable[[], Any], places: Tensor | None = None, **place: int
) -> Any:
    draws = Draws(of_each)
    draws.place(
        **({"seed": SEED, "step": STEP} | place), positions=torch.arange(M) if places is None else places
    )
    with draws:
        return call()


def attention(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, dropout_p=0.4)


# What draws; its numbers for a view of (4, 3, 2).
CALLS: list[tuple[Callable[[Tensor], Tensor], int]] = [
    (nn.Dropout(0.4), 24),
    (lambda x: nn.Dropout(0.4, inplace=True)(x.clone()), 24),
    (lambda x: torch.dropout(x, 0.4, True), 24),
    (nn.Dropout2d(0.4), 4),
    (nn.Dropout3d(0.4), 4),
    (DropPath(0.4), 1),
    (lambda x: x * torch.rand(len(x), 1, 1, 1, dtype=x.dtype).ge_(0.4), 1),
    (lambda x: x * torch.rand_like(x).ge_(0.4), 24),
    (attention, 4 * 3 * 3),
    (
        lambda x: F.dropout(x.flatten(0, 1), 0.4).unflatten(0, x.shape[:2]),
        24,
    ),  # a view's windows follow each other
]


@pytest.mark.parametrize(("call", "each"), CALLS)
def test_a_part_draws_what_the_whole_draws_for_it(call: Callable[[Tensor], Tensor], each: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(M, 4, 3, 2, dtype=torch.float64) + 1
    whole = draw([each], lambda: call(x))
    for part in (slice(0, 6), slice(6, 12), slice(1, 12, 3), slice(4, 5)):
        found = draw([each], lambda part=part: call(x[part]), torch.arange(M)[part])
        assert torch.equal(found, whole[part])
    assert not torch.equal(whole, x)
    assert not torch.equal(draw([each], lambda: call(x)[torch.arange(M - 1, -1, -1)]), whole)
    for other in ({"seed": SEED + 1}, {"step": STEP + 1}):
        assert not torch.equal(draw([each], lambda: call(x), **other), whole)


def test_the_numbers_are_those_of_the_generator() -> None:
    places = torch.tensor([3, 900])
    draws = Draws([1, 6, 1, None])
    draws.place(SEED, STEP, places)
    shapes = [(2, 1, 1), (2, 3, 2), (2, 1), (5,)]
    with draws:
        found = [draws.words(shape, places.device) for shape in shapes]
    key = np.array([SEED, STEP % 2**32], dtype=np.uint32)
    for number, (words, shape) in enumerate(zip(found, shapes, strict=True)):
        rows = [3, 900] if number < 3 else [0]
        counters = [[[block, number, row, 2**31] for block in range(2)] for row in rows]
        expected = philox4x32(np.array(counters, dtype=np.uint32), key).reshape(len(rows), -1)
        assert words.shape == shape
        assert words.reshape(len(rows), -1).tolist() == expected[:, : words.numel() // len(rows)].tolist()


def test_rates_and_scales() -> None:
    places = torch.arange(4000)
    x = torch.ones(4000, 20)
    path = draw([1], lambda: DropPath(0.3)(x), places)
    numbers = draw([20], lambda: F.dropout(x, 0.3), places)
    for dropped in (path[:, 0], numbers):
        assert torch.equal(dropped.unique(), torch.tensor([0, 1 / 0.7]))
        share = (dropped == 0).float().mean().item()
        assert share == pytest.approx(0.3, abs=4 * (0.21 / dropped.numel()) ** 0.5)
    assert torch.equal(path, path[:, :1].expand_as(path))
    uniform = draw([20], lambda: torch.rand(4000, 20), places)
    assert 0 <= uniform.min() < 1e-3
    assert 1 - 1e-3 < uniform.max() < 1
    assert draw([20], lambda: F.dropout(x, 1.0), places).count_nonzero() == 0
    assert draw([], lambda: F.dropout(x, 0.3, training=False), places) is x
    assert draw([], lambda: F.dropout(x, 0.0), places) is x


def test_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, M, 2, 5, 4, dtype=torch.float64)
    for mask in (None, torch.randn(5, 5, dtype=torch.float64), torch.eye(5) == 0):
        weights = torch.full((M, 2, 5, 5), 1 / (1 - 1e-12), dtype=torch.float64)  # all kept
        found = draw(
            [50],
            lambda mask=mask: F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=1e-12, scale=0.3
            ),
        )
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
        assert torch.allclose(found, expected * weights[0, 0, 0, 0], atol=1e-10)
        assert torch.equal(
            draw([], lambda mask=mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)),
            expected,
        )


@pytest.mark.parametrize("broken", [False, True])
def test_compiled_it_draws_the_same_and_no_step_is_compiled_anew(broken: bool) -> None:
    """Also where the graph is broken, as by batch norm over several ranks."""
    graphs, by_step = 0, []

    def backend(graph: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph

    @torch.compiler.disable
    def uncompiled(x: Tensor) -> Tensor:
        return -x

    class Break(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return uncompiled(x) if broken else -x

    torch.compiler.reset()
    network = nn.Sequential(
        nn.Linear(4, 4), nn.Dropout(0.5), DropPath(0.5), Break(), nn.Linear(4, 4), DropPath(0.2)
    )
    compiled = torch.compile(network, backend=backend)
    draws, x = Draws([4, 1, 1]), torch.rand(M, 4)
    outputs = []
    for step in range(4):
        draws.place(SEED, step, torch.arange(M) + 100 * step)
        with draws:
            outputs.append(network(x))
        with draws:
            assert torch.equal(compiled(x), outputs[-1])
        by_step.append(graphs)
    assert by_step[-1] == by_step[1] > 0
    assert broken or by_step == [1] * 4
    assert not torch.equal(outputs[0], outputs[1])


class TestBackbones:
    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("test_vit", {"drop_path": 0.5, "dropout": 0.3}),
            (
                "test_vit_relpos",
                {"drop_path": 0.3},
            ),  # its positions have dropout of their own, one for all images
            ("efficientvit_m0", {}),
            ("test_resnet", {"drop_path": 0.5, "dropout": 0.3}),
        ],
    )
    def test_features_in_parts(self, name: str, settings: dict[str, Any]) -> None:
        size = 64 if name == "efficientvit_m0" else 32
        torch.manual_seed(0)
        network = ContrastiveClustering(Model(backbone=name, clusters=2, **settings), size).double()
        network.train()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()  # its statistics join the images of a batch
        x = torch.rand(8, 3, size, size, dtype=torch.float64)

        def features(part: slice) -> Tensor:
            network.draws.place(SEED, 1, torch.arange(8)[part])
            with torch.no_grad():
                return network(x[part]).features

        whole = features(slice(0, 8))
        for part in (slice(0, 4), slice(4, 8), slice(1, 8, 2)):
            assert torch.allclose(features(part), whole[part], rtol=1e-12, atol=1e-12)
        with torch.no_grad():
            evaluated = network.eval()(x).features
        if settings:
            assert not torch.allclose(evaluated, whole)
        assert torch.equal(network(x).features, evaluated)

    def test_what_is_drawn_for_each_image_and_what_once(self) -> None:
        assert try_backbone(Model(backbone="test_resnet", clusters=2), 32).draws == ()
        assert try_backbone(Model(backbone="rexnet_100", clusters=2), 32).draws == (1280,)
        off = Model(backbone="rexnet_100", clusters=2, dropout=0)
        assert try_backbone(off, 32).draws == ()
        draws = try_backbone(Model(backbone="test_vit_relpos", clusters=2, drop_path=0.5), 32).draws
        assert set(draws) == {None, 1}

    @pytest.mark.parametrize(
        ("name", "settings", "sentence"),
        [
            (
                "test_efficientnet",
                {"drop_path": 0.2},
                "model.drop_path is 0.2, but 'test_efficientnet' does not use it",
            ),
            ("vgg11", {"drop_path": 0.2}, "'vgg11' does not support model.drop_path"),
        ],
    )
    def test_rates_that_a_backbone_does_not_use(
        self, name: str, settings: dict[str, float], sentence: str
    ) -> None:
        with pytest.raises(InputError) as caught:
            try_backbone(Model(backbone=name, clusters=2, **settings), 32)
        assert str(caught.value) == f"{sentence}: leave it out"

    def test_names_and_weights_are_as_without(self) -> None:
        torch.manual_seed(0)
        plain = ContrastiveClustering(Model(backbone="test_vit", clusters=2), 32).state_dict()
        torch.manual_seed(0)
        dropped = ContrastiveClustering(
            Model(backbone="test_vit", clusters=2, drop_path=0.5, dropout=0.5), 32
        ).state_dict()
        assert list(plain) == list(dropped)
        assert all(torch.equal(value, dropped[name]) for name, value in plain.items())


def test_what_has_no_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noisy(nn.Module):
        num_features = 4

        def __init__(self, noise: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.noise = noise

        def forward(self, x: Tensor) -> Tensor:
            return self.noise(x.mean((2, 3))[:, :2])

    for noise, why in (
        (lambda x: x + torch.randn_like(x), "it draws random numbers by randn_like"),
        (lambda x: F.dropout(x.T, 0.5).T, "it draws random numbers across images"),
        (
            lambda x: torch.stack([F.dropout(row, 0.5) for row in x]),
            "it draws random numbers more often for more images",
        ),
    ):
        monkeypatch.setattr("ccscale.model.trial.create_backbone", lambda *_, noise=noise, **__: Noisy(noise))
        with pytest.raises(InputError) as caught:
            try_backbone(Model(backbone="test_resnet", clusters=7), 32)
        assert str(caught.value) == (
            f"the results of the backbone 'test_resnet' would depend on the number of ranks, since {why}: set "
            "model.drop_path=0 and model.dropout=0, or choose another one (model.backbone)"
        )
