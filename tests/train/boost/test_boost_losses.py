"""What trains by labels, and what keeps clusters without labels in use."""

from functools import partial

import torch

from ccscale.config import Config
from ccscale.config.stages import Boost
from ccscale.loss import cluster_loss
from ccscale.train.boost.losses import boost_losses
from ccscale.train.boost.stage import as_begun

DATA = {"data": {"shards": "shards"}, "run": "run", "model": {"clusters": 3}}


def test_the_cluster_loss_goes_on_beside_the_labels() -> None:
    """The cross-entropy alone takes images from a cluster without labels; the cluster loss gives some back."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    logits[:, 2] -= 1  # smaller than the others
    labels = torch.arange(12) % 2  # of the third none
    settings, z = Config.model_validate(DATA).loss, torch.eye(24, dtype=torch.float64)
    found = {}
    for weight in (0.0, 1.0):
        x = logits.clone().requires_grad_()
        p = x.softmax(dim=1)
        cluster = partial(cluster_loss, *p.chunk(2)) if weight else None
        losses = boost_losses(settings, Boost(), z, p, labels, ["cluster"], cluster)
        losses.loss.backward()
        assert x.grad is not None
        found[weight] = losses.loss.item(), x.grad[:, 2].sum().item()
    difference = found[1.0][0] - found[0.0][0]
    torch.testing.assert_close(difference, cluster_loss(*logits.softmax(dim=1).chunk(2)).item())
    assert found[0.0][1] > found[1.0][1]  # less is taken from it


def test_a_stage_that_was_begun_before_goes_on_without_it() -> None:
    config = Config.model_validate(DATA)
    assert as_begun(config, {}) == config
    kept = as_begun(config, {"labels": 0, "cluster_weight": 0.5, "lr": 0.25})
    assert (kept.boost_cluster_weight, kept.boost_lr) == (0.5, 0.25)
    old = as_begun(config, {"labels": 0})
    assert (old.boost_cluster_weight, old.boost_lr) == (0, config.train.lr)


def test_what_a_stage_does_follows_from_what_was_trained_before() -> None:
    config = Config.model_validate(DATA | {"data": {"features": "store"}, "pairs": {"of": "neighbours"}})
    assert (config.boost_cluster_weight, config.boost_lr) == (0, config.train.lr)
    config = Config.model_validate(DATA)
    assert (config.boost_cluster_weight, config.boost_lr) == (1, config.train.lr / 10)


def test_the_share_follows_from_the_selection() -> None:
    assert Boost().share == 0.5
    assert Boost.model_validate({"selection": "calibrated"}).share == 1
    assert Boost.model_validate({"selection": "calibrated", "share": 0.3}).share == 0.3
