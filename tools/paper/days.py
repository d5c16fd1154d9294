#!/usr/bin/env python
"""Clusters that live, over days on which classes appear, beside frozen centres and beside all trained anew.

    python tools/paper/days.py STORE [--seeds 0 1 2] [--first 8] [--each 2] [--days 5] [--images 300] [--later 50]
        [--nothing 20] [--other STORE] [key=value ...]

The store has labels; they choose which images come when, and measure, and nothing else. On the first day come
IMAGES of each of FIRST classes, in an order of the seed's own, and a run is trained on them as
`configs/folder.yaml` has it: embeddings, and their centres. Each day after brings EACH new classes of IMAGES, and
LATER more of each class that is there. All that is proposed is accepted. Beside it stand

- frozen: the same centres and network; images farther out than a share of the run's own are left, and HDBSCAN
  makes clusters of them, day by day (the share that suits it best by the labels is told).
- anew: a run on all images of all days, with as many clusters as there are classes.

ACC counts an image without a cluster as wrong. Then come days of known classes alone, NOTHING times, and one with a
fifth of its images from another store: who is born on them, and whether there is an alarm.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table
from sklearn.cluster import HDBSCAN

from ccscale.clusters.assigning import assign
from ccscale.clusters.births import births
from ccscale.clusters.changing import apply
from ccscale.clusters.day import Day, sample
from ccscale.clusters.drift import Usual
from ccscale.clusters.founding import found
from ccscale.clusters.merging import merges
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.splitting import splits
from ccscale.clusters.state import State
from ccscale.config.file import parse_config
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.evaluate.matching import one_to_one
from ccscale.evaluate.opened import open_run
from ccscale.evaluate.sureness import assign_features
from ccscale.features.store import Features, open_features
from ccscale.train.train import train_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from sample_store import write_sample
from tool import exit_code, parser, tell

Int64 = NDArray[np.int64]
RANKS = (0.9, 0.95, 0.99)  # of frozen centres
LEAST = 20  # images of a group, of HDBSCAN on what they leave


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("store", metavar="STORE", help="a feature store with labels")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the runs")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for name, number in (("first", 8), ("each", 2), ("days", 5), ("images", 300), ("later", 50)):
        options.add_argument(f"--{name}", type=int, default=number)
    options.add_argument("--nothing", type=int, default=20, metavar="TIMES")
    options.add_argument("--other", metavar="STORE", help="of the same backbone")
    args = options.parse_args()

    def compare() -> int:
        store = open_features(args.store)
        other = None if args.other is None else open_features(args.other)
        rows = []
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(Seed(args, store, seed, Path(folder)).figures(other))
            print(rows[-1], file=sys.stderr, flush=True)
        tell(rows, args.json, show)
        return 0

    return exit_code(compare)


class Seed:
    """The days of a seed, the run of the first, and all that is measured."""

    def __init__(self, args: Any, store: Features, seed: int, folder: Path) -> None:
        self.store, self.seed, self.folder, self.overrides = store, seed, folder, args.overrides
        self.labels, self.later, self.quiet = store.labels, args.later, args.nothing
        self.classes, self.days = plan(args, self.labels, seed)
        self.old, self.new = self.classes[: args.first], self.classes[args.first :]
        self.every = np.concatenate(self.days)
        self.heads, self.sure = self.trained(self.days[0], len(self.old), "first")

    def trained(self, rows: Int64, clusters: int, name: str) -> tuple[Int64, NDArray[np.float32]]:
        """Train on some rows; return cluster and confidence of all rows of the store."""
        views = [self.store.take(rows, view) for view in range(self.store.views + 1)]
        sample_store = write_sample(self.store, rows, views, self.folder / f"{name}-store")
        settings = {
            "run": str(self.folder / name),
            "seed": self.seed,
            "data": {"features": str(sample_store.folder)},
            "pairs": {"of": "both", "neighbours": 25},
            "model": {"clusters": clusters, "head_width": 512, "centres": ["embeddings"]},
            "loss": {"cluster_weight": 0},
            # As many steps as 15 epochs of 8,000 images have.
            "train": {"global_batch": 512, "epochs": 225 // (len(rows) // 512), "lr": 1e-3, "device": "cpu"},
            "evaluate": {"every": 0},
        }
        train_run(parse_config(settings, self.overrides))
        evaluate_run(self.folder / name, probe=False, device="cpu")
        with open_run(self.folder / name, "cpu", heads_alone=True) as opened:
            return assign_features(opened.network, self.store.take(np.arange(self.store.rows)))

    def answers(self, rows: Int64) -> tuple[NDArray[np.float32], Int64, NDArray[np.float32], Int64]:
        """Return features, clusters, confidences and numbers of images."""
        return self.store.take(rows), self.heads[rows], self.sure[rows], rows

    def founded(self) -> tuple[State, Reservoir, Pool]:
        """Return the first version."""
        state, reservoir, pool = found(*self.answers(self.days[0]), k=len(self.old), seed=self.seed)
        return state.grown(self.heads[self.days[0]]), reservoir, pool

    def living(self) -> dict[str, Any]:
        """Take the days in, and accept all that is proposed."""
        state, reservoir, pool = self.founded()
        table, events = self.first_table(), []
        for number, rows in enumerate(self.days[1:], start=2):
            features, heads, sure, refs = self.answers(np.sort(rows))
            some = sample(refs, self.seed)
            day = Day.of(state, reservoir, pool, features[some], heads[some], refs[some], self.seed)
            ids = assign(state, features, heads, sure, refs, day).ids
            none, table[refs] = ids < 0, ids
            pool, _ = pool.taken(features[none], refs[none], heads[none], sure[none], number, self.seed)
            reservoir, state = reservoir.taken(features, ids, refs, self.seed), state.grown(ids)
            for proposal in [*births(day, state, pool), *merges(state, reservoir), *splits(state, reservoir)]:
                new = int(max(table.max(), state.ids.max())) + 1
                done = apply(proposal, state, pool, reservoir, new, self.seed)
                state, pool, reservoir = done.state, done.pool, done.reservoir
                for gone, kept in done.renamed.items():
                    table[table == gone] = kept
                table[done.refs] = done.ids
                events.append(done.event.kind)
        return self.scores(table) | {kind: events.count(kind) for kind in ("born", "merged", "split")}

    def frozen(self, far: float) -> dict[str, Any]:
        """Take the days in by frozen centres, and HDBSCAN on what lies farther out than some rank."""
        state, reservoir, pool = self.founded()
        table, born = self.first_table(), 0
        for number, rows in enumerate(self.days[1:], start=2):
            features, heads, sure, refs = self.answers(np.sort(rows))
            answers = assign(state, features, heads, sure)
            ids = np.where(answers.ranks > far, -1, answers.ids)
            none, table[refs] = ids < 0, ids
            pool, _ = pool.taken(features[none], refs[none], heads[none], sure[none], number, self.seed)
            groups = HDBSCAN(min_cluster_size=LEAST, copy=True).fit_predict(state.space(pool.features))
            for refs_of in [pool.refs[groups == one] for one in range(groups.max(initial=-1) + 1)]:
                new = int(max(table.max(), state.ids.max())) + 1
                done = apply(Proposal("birth", (), refs_of, {}, ""), state, pool, reservoir, new, self.seed)
                state, pool, reservoir, born = done.state, done.pool, done.reservoir, born + 1
                table[done.refs] = done.ids
        return self.scores(table) | {"born": born, "rank": far}

    def anew(self) -> dict[str, Any]:
        """Train on everything."""
        table = self.first_table()
        table[self.every] = self.trained(self.every, len(self.classes), "anew")[0][self.every]
        return self.scores(table)

    def first_table(self) -> Int64:
        """Return the cluster of each row of the store after the first day; -1 of those that did not come."""
        table = np.full(self.store.rows, -1)
        table[self.days[0]] = self.heads[self.days[0]]
        return table

    def scores(self, table: Int64) -> dict[str, Any]:
        """Return ACC on parts of the images, by the best match of clusters and classes over all of them."""
        right = matched(table[self.every], self.labels[self.every])
        of = np.full(len(table), False)
        of[self.every] = right
        is_old = np.isin(self.labels[self.every], self.old)
        after = np.setdiff1d(self.every[is_old], self.days[0])
        return {
            "old": float(of[self.every[is_old]].mean()),
            "old, of day 1": float(of[self.days[0]].mean()),
            "old, of later days": float(of[after].mean()),
            "new": float(of[self.every[~is_old]].mean()),
            "unassigned": float((table[self.every] < 0).mean()),
            "changed": float((table[self.days[0]] != self.heads[self.days[0]]).mean()),
        }

    def quiet_days(self, times: int, other: Features | None) -> dict[str, Any]:
        """Return what days of known classes alone bring, and one with a fifth from another store."""
        state, reservoir, pool = self.founded()
        usual = Usual.of(state, reservoir, self.heads[reservoir.refs], self.sure[reservoir.refs])
        known = np.setdiff1d(self.every[np.isin(self.labels[self.every], self.old)], self.days[0])
        size = self.later * len(self.old)

        def brought(features: Any, heads: Int64, sure: Any, refs: Int64, seed: int) -> tuple[bool, bool]:
            day = Day.of(state, reservoir, pool, features, heads, refs, seed)
            answers = assign(state, features, heads, sure, refs, day)
            none = answers.ids < 0
            after, _ = pool.taken(features[none], refs[none], heads[none], sure[none], 2, seed)
            more = reservoir.taken(features, answers.ids, refs, seed)
            proposals = [*births(day, state, after), *merges(state, more), *splits(state, more)]
            return bool(proposals), usual.measure(features, heads, sure, answers, seed)["alarm"] is not None

        quiet = [
            brought(
                *self.answers(np.sort(np.random.default_rng(seed).choice(known, size, replace=False))), seed
            )
            for seed in range(times)
        ]
        found = {
            "quiet days": times,
            "that changed something": sum(one for one, _ in quiet),
            "with an alarm": sum(alarm for _, alarm in quiet),
        }
        if other is not None:
            with open_run(self.folder / "first", "cpu", heads_alone=True) as opened:
                strange = other.take(np.arange(size // 5))
                heads, sure = assign_features(opened.network, strange)
            own = self.answers(known[: size - size // 5])
            found["alarm at a fifth of another store"] = brought(
                np.concatenate([own[0], strange]),
                np.concatenate([own[1], heads]),
                np.concatenate([own[2], sure]),
                np.concatenate([own[3], self.store.rows + np.arange(len(strange))]),
                0,
            )[1]
        return found

    def figures(self, other: Features | None) -> dict[str, Any]:
        """Return all that is measured."""
        first = matched(self.heads[self.days[0]], self.labels[self.days[0]]).mean()
        frozen = [self.frozen(far) for far in RANKS]
        return {
            "seed": self.seed,
            "classes": [int(one) for one in self.classes],
            "old, day 1": float(first),
            "living": self.living(),
            "frozen": max(frozen, key=lambda one: one["new"]),
            "anew": self.anew(),
        } | self.quiet_days(self.quiet, other)


def plan(args: Any, labels: Int64, seed: int) -> tuple[Int64, list[Int64]]:
    """Return the classes in their order, and the rows of each day."""
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


def matched(clusters: Int64, classes: Int64) -> NDArray[np.bool_]:
    """Return which images are right by the best one-to-one match; those without a cluster (-1) are not."""
    right = np.full(len(clusters), False)
    there = np.flatnonzero(clusters >= 0)
    ids, numbers = np.unique(clusters[there], return_inverse=True)
    means = one_to_one(Contingency.of(numbers, classes[there], len(ids)))
    right[there] = means[numbers] == classes[there]
    return right


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print mean and spread over the seeds."""

    def spread(values: Iterator[float]) -> str:
        found = np.array(list(values))
        return f"{found.mean():.3f} ± {found.std():.3f}"

    names = list(rows[0]["anew"])
    table = Table("", *(Column(name, justify="right") for name in names))
    for way in ("living", "frozen", "anew"):
        table.add_row(way, *(spread(row[way][name] for row in rows) for name in names))
    Console(width=120).print(table)
    print(f"old, on day 1: {spread(row['old, day 1'] for row in rows)}")
    for row in rows:
        print({name: value for name, value in row.items() if name not in ("living", "frozen", "anew")})
        print("   living", row["living"], "frozen", row["frozen"])


if __name__ == "__main__":
    sys.exit(main())
