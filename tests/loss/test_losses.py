"""Both losses against plain formulations on one process, at W = 1, 2, 4 with different data on each rank."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.ranks import run_ranks
from torch import Tensor, nn

from ccscale.loss import cluster_loss, instance_loss, tiles

N, FEATURES, WIDTH = 12, 7, 5
CLUSTERS = {"cluster": 4, "many clusters": 30}  # more columns than 12 images: these are gathered
TEMPERATURES = {
    "instance": 0.3,
    "ring": 0.3,
    "cold": 0.01,
    "cold ring": 0.01,
    "labelled": 0.3,
    "labelled ring": 0.3,
    "cold labelled": 0.01,
    "at once": 0.3,
    "labelled at once": 0.3,
    "cluster": 0.7,
    "many clusters": 0.7,
}
LABELS = torch.tensor([0, 1, -1, 0, 2, -1, 0, 1, 1, 2, 3, -1])  # of N images


def plain_instance_loss(z_a: Tensor, z_b: Tensor, temperature: float, labels: Tensor | None = None) -> Tensor:
    """The paper's formula with the whole matrix, by cross-entropy; TCL's, where there are labels."""
    z = torch.cat([z_a, z_b])
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    if labels is not None:
        image = torch.arange(len(labels)).repeat(2)
        label = labels.repeat(2)
        alike = (label[:, None] == label) & (label >= 0)[:, None] & (image[:, None] != image)
        similarity = similarity.masked_fill(alike, -torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z_a)))


def plain_cluster_loss(p_a: Tensor, p_b: Tensor, temperature: float) -> Tensor:
    """The paper's formula on the columns themselves."""
    columns = F.normalize(torch.cat([p_a.T, p_b.T]), dim=1)
    similarity = columns @ columns.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    loss = F.cross_entropy(similarity, torch.arange(len(columns)).roll(p_a.shape[1]))
    for p in (p_a, p_b):
        q = p.sum(dim=0) / p.sum()
        loss = loss + math.log(p.shape[1]) + (q * q.log()).sum()
    return loss


class Heads(nn.Module):
    """Something with parameters in front of the losses."""

    def __init__(self, clusters: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.instance = nn.Linear(FEATURES, WIDTH, dtype=torch.float64)
        self.cluster = nn.Linear(FEATURES, clusters, dtype=torch.float64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.instance(x), dim=1), torch.softmax(3 * self.cluster(x), dim=1)


def features() -> Tensor:
    """(2 views, N images, features), float64."""
    return torch.randn(2, N, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def losses_and_gradients(x: Tensor, which: str, plain: bool) -> tuple[float, list[Tensor]]:
    """Return the value and the parameters' gradients of one loss on (2, n, features)."""
    heads = Heads(CLUSTERS.get(which, 4))
    (z_a, p_a), (z_b, p_b) = heads(x[0]), heads(x[1])
    temperature = TEMPERATURES[which]
    if which in CLUSTERS:
        loss = (plain_cluster_loss if plain else cluster_loss)(p_a, p_b, temperature)
    elif plain:
        loss = plain_instance_loss(z_a, z_b, temperature, LABELS if "labelled" in which else None)
    else:
        options: dict[str, Any] = {"ring_bytes": 0} if "ring" in which else {}
        if "labelled" in which:
            options["labels"] = LABELS
        with pytest.MonkeyPatch.context() as patch:
            for way in (tiles.RowSums, tiles.RowPulls):  # the ranks' rows together, as on a GPU
                patch.setattr(way, "at_once", "at once" in which)
            loss = instance_loss(z_a, z_b, temperature, **options)
            loss.backward()
        return loss.item(), [p.grad for p in heads.parameters() if p.grad is not None]
    loss.backward()
    return loss.item(), [p.grad for p in heads.parameters() if p.grad is not None]


def on_rank(rank: int, world: int) -> dict[str, tuple[float, list[Tensor]]]:
    n = N // world
    mine = features()[:, rank * n : (rank + 1) * n]
    return {which: losses_and_gradients(mine, which, plain=False) for which in TEMPERATURES}


@pytest.fixture(scope="module", params=[1, 2, 4])
def found(request: pytest.FixtureRequest) -> list[dict[str, tuple[float, list[Tensor]]]]:
    """What each of 1, 2 or 4 ranks found, with different data on each."""
    return run_ranks(request.param, on_rank, request.param)


@pytest.mark.dist
@pytest.mark.parametrize("which", TEMPERATURES)
def test_value_and_averaged_gradients_are_the_global_loss(found: Any, which: str) -> None:
    value, gradients = losses_and_gradients(features(), which, plain=True)
    for of in found:
        assert of[which][0] == pytest.approx(value, abs=1e-10)
    for i, expected in enumerate(gradients):
        average = torch.stack([of[which][1][i] for of in found]).mean(dim=0)
        assert (average - expected).abs().max() < 1e-10
        assert expected.abs().max() > 1e-4  # or the line above would say nothing


@pytest.mark.parametrize("temperature", [0.01, 0.5, 5.0])
@pytest.mark.parametrize("n", [1, 2, 37])
def test_instance_loss_at_all_temperatures_and_sizes(temperature: float, n: int) -> None:
    z = F.normalize(
        torch.randn(2, n, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(n)), dim=2
    )
    check(
        z, lambda a, b: instance_loss(a, b, temperature), lambda a, b: plain_instance_loss(a, b, temperature)
    )


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("k", [2, 3, 50])  # 100 columns are more than 30 images
def test_cluster_loss_at_all_temperatures_and_sizes(temperature: float, k: int) -> None:
    logits = torch.randn(2, 30, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    check(
        logits,
        lambda a, b: cluster_loss(a.softmax(1), b.softmax(1), temperature),
        lambda a, b: plain_cluster_loss(a.softmax(1), b.softmax(1), temperature),
    )


def check(inputs: Tensor, loss: Callable[..., Tensor], plain: Callable[..., Tensor]) -> None:
    gradients = []
    values = []
    for function in (loss, plain):
        a, b = (view.clone().requires_grad_() for view in inputs)
        value = function(a, b)
        gradients.append(torch.stack(torch.autograd.grad(value, (a, b))))
        values.append(value.item())
    assert values[0] == pytest.approx(values[1], abs=1e-10)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-10


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_tiles_do_not_change_the_losses(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(2, 33, 8, dtype=torch.float64, generator=generator), dim=2)
    logits = torch.randn(2, 30, 19, dtype=torch.float64, generator=generator)
    monkeypatch.setattr(tiles, "CPU_TILE", 7)  # 66 rows leave a last tile of 3, 38 columns one of 3
    monkeypatch.setattr("ccscale.loss.cluster.STRIP", 38 * 7)
    check(
        z, lambda a, b: instance_loss(a, b, temperature), lambda a, b: plain_instance_loss(a, b, temperature)
    )
    for images in (30, 11):  # through the products, and through the gathered columns
        check(
            logits[:, :images],
            lambda a, b: cluster_loss(a.softmax(1), b.softmax(1), temperature),
            lambda a, b: plain_cluster_loss(a.softmax(1), b.softmax(1), temperature),
        )


def test_what_is_kept_for_the_way_back_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "CPU_TILE", 7)
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(2, 12, 8, generator=generator), dim=2)
    logits = torch.randn(2, 12, 30, generator=generator)
    gradients = []
    for most in (0, 2**20):
        monkeypatch.setattr(tiles, "KEPT_BYTES", most)
        for inputs, loss in ((z, instance_loss), (z, labelled), (logits.softmax(2), cluster_loss)):
            x = inputs.clone().requires_grad_()
            value = loss(*x)
            gradients += torch.autograd.grad(value, x, retain_graph=True)
            assert torch.equal(
                gradients[-1], *torch.autograd.grad(value, x)
            )  # and once more, with nothing left
    assert all(map(torch.equal, gradients[:3], gradients[3:]))


def labelled(z_a: Tensor, z_b: Tensor) -> Tensor:
    return instance_loss(z_a, z_b, labels=LABELS)


def test_nothing_as_large_as_the_matrix_is_made() -> None:
    """No allocation in either pass comes near the 1600 x 1600 similarities, where they are too many to be kept."""
    z = F.normalize(torch.randn(2, 800, 8), dim=2).requires_grad_()
    with pytest.MonkeyPatch.context() as patch, torch.profiler.profile(profile_memory=True) as profile:
        patch.setattr(tiles, "CPU_TILE", 64)
        patch.setattr(tiles, "KEPT_BYTES", 2**20)
        instance_loss(*z).backward()
    allocated = [event.cpu_memory_usage for event in profile.events() if event.name == "aten::empty"]
    assert allocated
    assert max(allocated) < 1600 * 1600 * 4 / 20


def test_float32_and_bfloat16_inputs_are_computed_in_float32() -> None:
    z = F.normalize(torch.randn(2, 64, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    p = (2 * torch.randn(2, 64, 10, generator=torch.Generator().manual_seed(1))).softmax(dim=2)
    for loss, x in ((instance_loss, z), (cluster_loss, p)):
        half = x.bfloat16()
        exact = loss(*half.double())  # the tests above compare it with the plain formula
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(*half, half=True)  # which is of GPUs alone
        assert found.dtype == torch.float32
        assert float(found) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("temperature", [0.01, 0.5, 5.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_of_narrower_inputs_are_those_of_float64(
    dtype: torch.dtype, tolerance: float, temperature: float, autocast: bool
) -> None:
    """Of the very same numbers: what is left is the rounding of the result to the inputs' own type."""
    z = F.normalize(torch.randn(2, 37, 16, generator=torch.Generator().manual_seed(0)), dim=2).to(dtype)
    p = (2 * torch.randn(2, 37, 10, generator=torch.Generator().manual_seed(1))).softmax(dim=2).to(dtype)
    for loss, x in ((instance_loss, z), (cluster_loss, p)):
        gradients = []
        for inputs in (x, x.double()):
            a, b = (view.detach().requires_grad_() for view in inputs)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss(a, b, temperature).backward()
            gradients.append(torch.stack([a.grad, b.grad]).double())
        found, exact = gradients
        # sums of large weights that nearly cancel at a low temperature lose digits: measured against the largest
        assert (found - exact).abs().max() <= tolerance * (1 if temperature > 0.1 else 50) * exact.abs().max()


def test_backward_under_autocast_is_in_float32() -> None:
    z = F.normalize(torch.randn(2, 64, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    gradients = []
    for enabled in (False, True):
        a, b = (view.clone().requires_grad_() for view in z)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            instance_loss(a, b).backward()
        gradients.append(a.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("clusters", [4, 5])  # ten columns are more than eight images
@pytest.mark.parametrize("assignment", ["one-hot", "one cluster"])
def test_dead_columns_have_finite_values_and_gradients(assignment: str, clusters: int) -> None:
    hard = torch.arange(8) % 3 if assignment == "one-hot" else torch.zeros(8, dtype=torch.int64)
    p = F.one_hot(hard, clusters).float().requires_grad_()  # the columns from 3 on are empty
    loss = cluster_loss(p, p.detach().roll(1, 0))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(p.grad).all()
    assert p.grad.abs().sum() > 0


def test_the_entropy_term_is_zero_for_even_clusters_and_log_k_for_one() -> None:
    even = torch.eye(4).repeat(3, 1)
    single = F.one_hot(torch.zeros(12, dtype=torch.int64), 4).float()
    # Both views alike: the contrast of even one-hot columns is log(1 e + 6) - 1, and a collapse costs log 4 a view.
    assert float(cluster_loss(even, even)) == pytest.approx(math.log(math.e + 6) - 1, abs=1e-6)
    assert float(cluster_loss(single, single)) > 2 * math.log(4) - 1e-6


@pytest.mark.dist
@pytest.mark.parametrize("world", [2, 3])
def test_shapes_that_differ_between_ranks_are_refused_on_all(world: int) -> None:
    """In one sentence that names them; nobody waits for a collective call that never comes."""
    for said in run_ranks(world, refusals_on_rank, world):
        rows, types, views, fine = said
        last = world - 1
        assert rows.startswith(
            "the shapes of z_a and z_b (rows, columns, type) must be the same on all ranks: "
        )
        assert "(6, 4, 2, 6, 4, 2) on rank 0" in rows
        assert f"(5, 4, 2, 5, 4, 2) on rank {last}" in rows
        assert f"(6, 4, 1, 6, 4, 1) on rank {last}" in types
        assert f"(6, 3, 2, 5, 3, 2) on rank {last}" in views
        assert fine == "fine"


def refusals_on_rank(rank: int, world: int) -> list[str]:
    last = rank == world - 1
    z, p = F.normalize(torch.randn(6, 4), dim=1), torch.randn(6, 3).softmax(dim=1)
    attempts = [
        lambda: instance_loss(*(2 * [z[: 5 if last else 6]])),
        lambda: instance_loss(*(2 * [z.bfloat16() if last else z])),
        lambda: cluster_loss(p, p[: 5 if last else 6]),
        lambda: instance_loss(z, z) + cluster_loss(p, p),
    ]
    said = []
    for attempt in attempts:
        try:
            attempt()
            said.append("fine")
        except ValueError as error:
            said.append(str(error))
    return said


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="n, d"):
        instance_loss(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="floating type"):
        instance_loss(torch.ones(3, 2), torch.ones(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="temperature"):
        instance_loss(torch.ones(3, 2), torch.ones(3, 2), 0)
    with pytest.raises(ValueError, match="c >= 2"):
        cluster_loss(torch.ones(3, 1), torch.ones(3, 1))
    with pytest.raises(ValueError, match="temperature"):
        cluster_loss(torch.ones(3, 2), torch.ones(3, 2), -1)
