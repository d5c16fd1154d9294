"""The first day of living clusters, on part of a store whose classes are known: a run, and what it says of all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sample_store import write_sample

from ccscale.array_types import Float32, Int64
from ccscale.clusters.applying import Applied, apply_proposals, settled
from ccscale.clusters.assigning import AssignedImages, assign_images
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.new_images import NewImages, sample
from ccscale.clusters.proposal import Proposal, births, merges, splits
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import State
from ccscale.config.file import parse_config
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.evaluate.matching import one_to_one
from ccscale.evaluate.opened_run import open_run
from ccscale.evaluate.reliability import assign_features
from ccscale.features.store import Features
from ccscale.train.train import train_run


@dataclass(frozen=True)
class Network:
    """A run that was trained on some rows of a store.

    Attributes
    ----------
    folder
        The run's.
    seed
        Its own.
    """

    folder: Path
    seed: int

    @classmethod
    def trained(
        cls, store: Features, rows: Int64, clusters: int, seed: int, folder: Path, overrides: Sequence[str]
    ) -> "Network":
        """Train one as `configs/folder.yaml` has it, on these rows; the store that it is given lies beside it."""
        views = [store.take(rows, view) for view in range(store.views + 1)]
        own = write_sample(store, rows, views, folder.with_name(f"{folder.name}-store"))
        settings = {
            "run": str(folder),
            "seed": seed,
            "data": {"features": str(own.folder)},
            "pairs": {"of": "both" if store.views else "neighbours", "neighbours": 25},
            "model": {"clusters": clusters, "head_width": 512, "centres": ["embeddings"]},
            "loss": {"cluster_weight": 0},
            # As many steps as 15 epochs of 8,000 images have.
            "train": {"global_batch": 512, "epochs": 225 // (len(rows) // 512), "lr": 1e-3, "device": "cpu"},
            "evaluate": {"every": 0},
        }
        train_run(parse_config(settings, overrides))
        evaluate_run(folder, probe=False, device="cpu")
        return cls(folder, seed)

    def answers(self, features: Float32) -> tuple[Int64, Float32]:
        """Return the cluster and the confidence of images (n, D)."""
        with open_run(self.folder, "cpu", heads_alone=True) as opened:
            return assign_features(opened.network, features)


@dataclass(frozen=True)
class Known:
    """What living clusters know at some day, and take in.

    Attributes
    ----------
    state, reservoir, pool
        Of the version.
    seed
        Of what is drawn.
    number
        Of the day.
    next_id
        The least id that was never used.
    """

    state: State
    reservoir: Reservoir
    pool: Pool
    seed: int
    number: int = 1
    next_id: int = 0

    @classmethod
    def founded(
        cls, features: Float32, heads: Int64, sure: Float32, refs: Int64, k: int, seed: int
    ) -> "Known":
        """Return the first version."""
        state, reservoir, pool = make_initial_state(features, heads, sure, refs, k=k, seed=seed)
        return cls(state.grown(heads), reservoir, pool, seed, next_id=k)

    def day(
        self, features: Float32, heads: Int64, sure: Float32, refs: Int64
    ) -> tuple["Known", AssignedImages, list[Proposal]]:
        """Take a day's images in: what is known then, what they are told, and what is proposed."""
        some = sample(refs, self.seed)
        looked = features[some], heads[some], refs[some]
        day = NewImages.of(self.state, self.reservoir, self.pool, *looked, self.seed)
        answers = assign_images(self.state, features, heads, sure, refs, day)
        after = self.with_pool(features, heads, sure, refs, answers.ids < 0)
        after = replace(
            after,
            state=self.state.grown(answers.ids),
            reservoir=self.reservoir.taken(features, answers.ids, refs, self.seed),
        )
        changes = (
            births(day, after.state, after.reservoir, after.pool),
            *(find(after.state, after.reservoir) for find in (merges, splits)),
        )
        return after, answers, [one for make_initial_state in changes for one in make_initial_state]

    def with_pool(
        self, features: Float32, heads: Int64, sure: Float32, refs: Int64, chosen: NDArray[np.bool_]
    ) -> "Known":
        """Remember those of a day's images that have no cluster."""
        of = features[chosen], refs[chosen], heads[chosen], sure[chosen]
        pool, _ = self.pool.taken(*of, self.number + 1, self.seed)
        return replace(self, pool=pool, number=self.number + 1)

    def after(self, proposal: Proposal) -> tuple["Known", Applied]:
        """Accept a proposal."""
        done = apply_proposals(proposal, self.state, self.pool, self.reservoir, self.next_id, self.seed)
        next_id = max(self.next_id, int(done.state.clusters.max()) + 1)
        return replace(
            self, state=done.state, pool=done.pool, reservoir=done.reservoir, next_id=next_id
        ), done

    def settled(self) -> tuple["Known", Int64, Int64]:
        """Look at unassigned images again, as `accept` does: what is known, and which have which id."""
        refs, ids = settled(self.state, self.reservoir, self.pool, np.empty(0, np.int64), self.seed)
        return replace(self, state=self.state.grown(ids), pool=self.pool.without(refs)), refs, ids


def matched(clusters: Int64, classes: Int64) -> NDArray[np.bool_]:
    """Return which images are right by the best one-to-one match; those without a cluster (-1) are not."""
    right = np.full(len(clusters), False)
    there = np.flatnonzero(clusters >= 0)
    ids, numbers = np.unique(clusters[there], return_inverse=True)
    means = one_to_one(Contingency.of(numbers, classes[there], len(ids)))
    right[there] = means[numbers] == classes[there]
    return right


def plan(args: Any, labels: Int64, seed: int) -> tuple[Int64, list[Int64]]:
    """Return the classes in their order, and the rows of each day.

    On the first day come ``args.images`` of each of ``args.first`` classes; on each of the ``args.days`` - 1 after
    it those of ``args.each`` new ones, and ``args.later`` more of each class that is there.
    """
    draw = np.random.default_rng(1_000 + seed)
    order = draw.permutation(np.unique(labels[labels >= 0]))[: args.first + args.each * (args.days - 1)]
    days: list[list[Int64]] = [[] for _ in range(args.days)]
    for place, label in enumerate(order):
        rows = draw.permutation(np.flatnonzero(labels == label))
        first = 0 if place < args.first else (place - args.first) // args.each + 1
        at = args.images
        days[first].append(rows[:at])
        for day in range(first + 1, args.days):
            days[day].append(rows[at : at + args.later])
            at += args.later
    return order, [draw.permutation(np.concatenate(rows)) for rows in days]
