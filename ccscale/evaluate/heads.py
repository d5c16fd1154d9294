"""Chooses the cluster head to use, without labels, and tabulates all heads.

On a feature store with neighbours, the head with the highest kappa is used (`head_kappas.py`), whether it was
trained or consists of centres.

Otherwise two views of some images (`stability.py`) are assigned by every head. Of the trained heads for one K,
the more stable half is kept, and of these the one with the lowest loss is chosen: a head with a low loss may
separate images by their views, and a head with a high stability may separate little. Heads that consist of
centres (`centres.py`) have no loss: the most stable of them and the chosen one is used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ccscale.config import Config, Loss, Model
from ccscale.errors import InputError
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.stability import agreement
from ccscale.evaluate.tally import Tally
from ccscale.loss.prior import prior_of
from ccscale.loss.temi import head_losses

TRAINED, UNTRAINED = "training", "no training"
FIGURES = ("empty", "effective_clusters", "largest", "confidence", "information", "acc", "nmi", "ari")


@dataclass(frozen=True)
class Choice:
    """The heads that were chosen.

    Attributes
    ----------
    heads
        The one of each K, in the order of the config; counted from 0 over all heads.
    rows
        Of each head ``head``; ``of``, how it came about: ``training``, ``no training`` where no loss is taken of
        it, or centres of ``embeddings`` or ``features``; ``clusters``; ``loss`` (None of centres, and where no
        image was examined); ``stability``; where it was measured ``kappa``, of neighbours.
    """

    heads: tuple[int, ...]
    rows: tuple[dict[str, Any], ...]


def choose_heads(pairs: NDArray[np.float32], config: Config, kappas: Sequence[float] | None = None) -> Choice:
    """Choose the head of each K that serves.

    Parameters
    ----------
    pairs
        (2, n, ΣK): the soft assignments of two views of n images by all heads, side by side.
    config
        The run's.
    kappas
        The neighbours' kappa by each head, where it was measured: then it chooses.
    """
    model, by_head = config.model, of_heads(pairs, config.model)
    trained = len(model.trained_clusters)
    losses: list[float | None] = [None] * len(by_head)
    if pairs.shape[1]:
        losses[:trained] = _losses(by_head[:trained], model, config.loss)
    made_by = [TRAINED if "cluster" in config.losses else UNTRAINED] * trained
    made_by += [of for of in model.centres for _ in model.cluster_counts]
    rows: list[dict[str, Any]] = [
        {
            "head": number,
            "of": of,
            "clusters": p.shape[2],
            "loss": loss,
            "stability": agreement(p)["stability"],
        }
        for number, (p, of, loss) in enumerate(zip(by_head, made_by, losses, strict=True))
    ]
    if kappas is not None:
        rows = [{**row, "kappa": kappa} for row, kappa in zip(rows, kappas, strict=True)]
    measure = "stability" if kappas is None else "kappa"
    chosen = []
    for k in model.cluster_counts:
        of_k = [row for row in rows if row["clusters"] == k]
        candidates = [row for row in of_k if row["of"] in model.centres]
        if "cluster" in config.losses or not candidates:
            of_training = [row for row in of_k if row["of"] not in model.centres]
            candidates = (of_training if kappas else [_best_trained(of_training)]) + candidates
        chosen.append(max(candidates, key=lambda row: row[measure])["head"])
    return Choice(tuple(chosen), tuple(rows))


def _best_trained(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the lowest loss among the more stable half."""
    stable = sorted(rows, key=lambda row: -row["stability"])[: -(-len(rows) // 2)]
    return min(stable, key=lambda row: math.inf if row["loss"] is None else row["loss"])


def of_heads(pairs: NDArray[np.float32], settings: Model) -> list[NDArray[np.float32]]:
    """Take assignments (2, n, ΣK) apart into those of each head, (2, n, K)."""
    return np.split(pairs, np.cumsum(settings.head_clusters)[:-1], axis=2)


def _losses(by_head: Sequence[NDArray[np.float32]], settings: Model, loss: Loss) -> list[float]:
    """Return each head's loss over these images, by the run's objective; with TEMI each head is its own teacher."""
    found: list[float] = []
    for first in range(0, len(by_head), settings.heads):
        p = torch.from_numpy(np.stack(by_head[first : first + settings.heads])).double()  # (H, 2, n, K)
        if loss.objective == "temi":
            views = p.flatten(1, 2)
            found += head_losses(views, views, views.mean(dim=1), loss.temi_beta).tolist()
        else:
            found += [_contrast(p_a, p_b, loss) for p_a, p_b in p]
    return found


def _contrast(p_a: Tensor, p_b: Tensor, loss: Loss) -> float:
    """Return the cluster loss (`loss/cluster.py`) of images that are all on this rank."""
    columns = F.normalize(torch.cat([p_a.T, p_b.T]), dim=1)
    similarity = (columns @ columns.T / loss.cluster_temperature).fill_diagonal_(-torch.inf)
    k = p_a.shape[1]
    contrast = F.cross_entropy(similarity, torch.arange(2 * k).roll(k))
    means = torch.stack([p_a.mean(dim=0), p_b.mean(dim=0)])
    # Of an estimated prior these images alone tell the sizes.
    prior = prior_of(loss.prior, loss.prior_exponent, torch.zeros(k, dtype=means.dtype), decay=0)
    log_prior = (
        torch.full((k,), -math.log(k)) if prior is None else prior(means.mean(dim=0), (p_a * p_b).sum(dim=0))
    )
    divergence = -(means * log_prior).sum() - torch.special.entr(means).sum()
    return float(contrast + loss.prior_weight * divergence)


def serving_head(settings: Model, chosen: Sequence[int], clusters: int | None = None) -> int:
    """Return the head that serves.

    Parameters
    ----------
    settings
        The config's section ``model``.
    chosen
        The chosen head of each K; the first ones, if none is chosen.
    clusters
        The K that is requested; by default the first of the config.

    Raises
    ------
    InputError
        If there is no head of this many clusters.
    """
    counts = settings.cluster_counts
    if clusters is not None and clusters not in counts:
        has = " and ".join(f"{k:,}" for k in counts)
        raise InputError(
            f"there is no head with {clusters:,} clusters: the network has heads with {has} (--clusters)"
        )
    number = 0 if clusters is None else counts.index(clusters)
    if chosen:
        return chosen[number]
    return len(settings.trained_clusters) + number if settings.centres else number * settings.heads


class HeadTallies:
    """What is counted of every head while samples are assigned by the one that serves; nothing of a single one."""

    def __init__(self, settings: Model) -> None:
        several = len(settings.head_clusters) > 1
        self.tallies = [Tally(k) for k in settings.head_clusters] if several else []

    def add(self, assigned: Assigned) -> None:
        """Count a batch."""
        bad, labels = assigned.batch.bad, assigned.batch.labels
        for tally, p in zip(self.tallies, assigned.outputs.heads, strict=False):
            confidence, clusters = (values.cpu().numpy() for values in p.max(dim=1))
            good = p[torch.from_numpy(~bad).to(p.device)]
            tally.add(np.where(bad, -1, clusters), np.where(bad, 0, confidence), labels, good)

    @classmethod
    def join(cls, parts: Sequence["HeadTallies"], settings: Model) -> "HeadTallies":
        """Add up those of all ranks."""
        joined = cls(settings)
        joined.tallies = [
            Tally.join(tallies) for tallies in zip(*(part.tallies for part in parts), strict=True)
        ]
        return joined

    def table(self, choice: Choice, serving: int) -> list[dict[str, Any]]:
        """Return a row of figures for each head.

        Returns
        -------
        list of dict
            Those of `Choice.rows`; ``chosen``, ``serves``; of `Tally.summary` ``empty``, ``effective_clusters``,
            ``largest``, ``confidence``, ``information``, and where there are labels ``acc``, ``nmi``, ``ari``.
        """
        rows = []
        for row, tally in zip(choice.rows, self.tallies, strict=True):
            summary = tally.summary()
            number = row["head"]
            figures = {name: summary[name] for name in FIGURES if name in summary}
            rows.append({**row, "chosen": number in choice.heads, "serves": number == serving, **figures})
        return rows
