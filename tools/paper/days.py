#!/usr/bin/env python
"""Clusters that live, over days on which classes appear, beside frozen centres and beside all trained anew.

    python tools/paper/days.py STORE [--seeds 0 1 2] [--first 8] [--each 2] [--days 5] [--images 300] [--later 50]
        [--verbs] [--retrain] [key=value ...]

The store has labels; they choose which images come when, and measure, and nothing else. On the first day come
IMAGES of each of FIRST classes, in an order of the seed's own, and a run is trained on them as
`configs/folder.yaml` has it: embeddings, and their centres. Each day after brings EACH new classes of IMAGES, and
LATER more of each class that is there. All that is proposed is accepted. Beside it stand

- by verbs (with --verbs): the same days through `ccscale lineage init` and `ccscale update`, a store a day.
- assigned again, retrained, retrained and assigned again (with --retrain): the same, and behind it `ccscale update`
  with --reassign; or with --retrain, and with --reassign after it.
- frozen: the same centres and network; images farther out than a share of the run's own are left, and HDBSCAN
  makes clusters of them, day by day (the share that suits it best by the labels is told).
- anew: a run on all images of all days, with as many clusters as there are classes.
- network: what the first day's network says of images of the old classes, and no update at all.

ACC counts an image without a cluster as wrong.
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

from ccscale.clusters.assigning import assign_images
from ccscale.clusters.decisions import reassign
from ccscale.clusters.init import found_clusters
from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.proposal import KINDS, Proposal
from ccscale.clusters.retraining import retrain
from ccscale.clusters.rollback import roll_back
from ccscale.clusters.tables import full_table
from ccscale.clusters.update import UpdateOptions, update_run
from ccscale.features.store import Features, open_features

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from first_day import Known, Network, matched, plan
from sample_store import write_rows
from tool import exit_code, parser, tell

from ccscale.array_types import Int64

RANKS = (0.9, 0.95, 0.99)  # of frozen centres
LEAST = 20  # images of a group, of HDBSCAN on what they leave
AGAIN, RETRAINED, BOTH = "assigned again", "retrained", "retrained and assigned again"
WAYS = ("living", "by verbs", AGAIN, RETRAINED, BOTH, "frozen", "anew", "network")


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("store", metavar="STORE", help="a feature store with labels")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the runs")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for name, number in (("first", 8), ("each", 2), ("days", 5), ("images", 300), ("later", 50)):
        options.add_argument(f"--{name}", type=int, default=number)
    options.add_argument("--verbs", action="store_true", help="through the commands, too")
    options.add_argument("--retrain", action="store_true", help="and go on with the heads after the last day")
    args = options.parse_args()

    def compare() -> int:
        store = open_features(args.store)
        rows = []
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(Seed(args, store, seed, Path(folder)).figures(args.verbs, args.retrain))
            print(rows[-1], file=sys.stderr, flush=True)
        tell(rows, args.json, show)
        return 0

    return exit_code(compare)


class Seed:
    """The days of a seed, the run of the first, and all that is measured."""

    def __init__(self, args: Any, store: Features, seed: int, folder: Path) -> None:
        self.store, self.seed, self.folder, self.overrides = store, seed, folder, args.overrides
        self.labels = store.labels
        self.classes, self.days = plan(args, self.labels, seed)
        self.old, self.new = self.classes[: args.first], self.classes[args.first :]
        self.every = np.concatenate(self.days)
        self.heads, self.sure = self.trained(self.days[0], len(self.old), "first")

    def trained(self, rows: Int64, clusters: int, name: str) -> tuple[Int64, NDArray[np.float32]]:
        """Train on some rows; return cluster and confidence of all rows of the store."""
        network = Network.trained(self.store, rows, clusters, self.seed, self.folder / name, self.overrides)
        return network.answers(self.store.take(np.arange(self.store.rows)))

    def answers(self, rows: Int64) -> tuple[NDArray[np.float32], Int64, NDArray[np.float32], Int64]:
        """Return features, clusters, confidences and numbers of images."""
        return self.store.take(rows), self.heads[rows], self.sure[rows], rows

    def founded(self) -> Known:
        """Return the first version."""
        return Known.founded(*self.answers(self.days[0]), k=len(self.old), seed=self.seed)

    def living(self) -> dict[str, Any]:
        """Take the days in, and accept all that is proposed."""
        known, table, events = self.founded(), self.first_table(), []
        for rows in map(np.sort, self.days[1:]):
            known, answers, proposals = known.day(*self.answers(rows))
            table[rows] = answers.ids
            for proposal in proposals:
                known, done = known.after(proposal)
                for gone, kept in done.renamed.items():
                    table[table == gone] = kept
                table[done.refs] = done.ids
                events.append(done.event.kind)
            if any(proposal.kind == "birth" for proposal in proposals):
                known, refs, ids = known.settled()
                table[refs] = ids
        return self.scores(table) | counted(events)

    def by_verbs(self) -> dict[str, Any]:
        """Take the days in by the commands, a store each."""
        run, keys = self.folder / "first", self.store.keys.to_pylist()
        found_clusters(run, device="cpu")
        for number, rows in enumerate(map(np.sort, self.days[1:]), start=2):
            day, own = self.folder / f"day-{number}", [keys[row] for row in rows]
            bad = np.zeros(len(rows), bool)
            write_rows(day, [self.store.take(rows)], own, self.labels[rows], bad, f"{number:064d}")
            update_run(run, UpdateOptions(features=str(day), apply=KINDS), device="cpu")
        return self.recorded(run)

    def retrained(self) -> dict[str, Any]:
        """Go on with the heads after the last day that `by_verbs` has taken in; and look at all images again."""
        run, found = self.folder / "first", dict[str, Any]()
        before = open_lineage(run).number
        reassign(run, "cpu")
        found[AGAIN] = self.recorded(run)
        roll_back(run, before)
        retrain(run, device="cpu")
        found[RETRAINED] = self.recorded(run) | {"asked": open_lineage(run).current.asked}
        reassign(run, "cpu")
        return found | {BOTH: self.recorded(run)}

    def recorded(self, run: Path) -> dict[str, Any]:
        """Return how good the ids are that a run's images have at the current version."""
        lineage, keys = open_lineage(run), self.store.keys.to_pylist()
        table, places = self.first_table(), {key: row for row, key in enumerate(keys)}
        for part in full_table(lineage, lineage.number):
            table[[places[key] for key in part["key"].to_pylist()]] = part["id"].to_numpy()
        return self.scores(table) | counted([event.kind for _, event in lineage.events()])

    def frozen(self, far: float) -> dict[str, Any]:
        """Take the days in by frozen centres, and HDBSCAN on what lies farther out than some rank."""
        known, table, born = self.founded(), self.first_table(), 0
        for rows in map(np.sort, self.days[1:]):
            told = self.answers(rows)
            answers = assign_images(known.state, *told[:3])
            table[rows] = np.where(answers.ranks > far, -1, answers.ids)
            known = known.with_pool(*told, table[rows] < 0)
            tree = HDBSCAN(min_cluster_size=LEAST, copy=True)
            groups = tree.fit_predict(known.state.space(known.pool.features))
            for refs in [known.pool.refs[groups == one] for one in range(groups.max(initial=-1) + 1)]:
                known, done = known.after(Proposal("birth", (), refs, {}, ""))
                table[done.refs], born = done.ids, born + 1
        return self.scores(table) | {"born": born, "rank": far}

    def anew(self) -> dict[str, Any]:
        """Train on everything."""
        table = self.first_table()
        table[self.every] = self.trained(self.every, len(self.classes), "anew")[0][self.every]
        return self.scores(table)

    def network(self) -> Int64:
        """Return what the first network says of images of the old classes; -1 of others."""
        table, old = self.first_table(), self.every[np.isin(self.labels[self.every], self.old)]
        table[old] = self.heads[old]
        return table

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

    def figures(self, verbs: bool, retrain: bool) -> dict[str, Any]:
        """Return all that is measured."""
        first = matched(self.heads[self.days[0]], self.labels[self.days[0]]).mean()
        frozen = [self.frozen(far) for far in RANKS]
        return {
            "seed": self.seed,
            "classes": [int(one) for one in self.classes],
            "old, day 1": float(first),
            "living": self.living(),
            **({"by verbs": self.by_verbs()} if verbs or retrain else {}),
            **(self.retrained() if retrain else {}),
            "frozen": max(frozen, key=lambda one: one["new"]),
            "anew": self.anew(),
            "network": self.scores(self.network()),
        }


def counted(events: Sequence[str]) -> dict[str, int]:
    """Return how often what became of clusters."""
    return {kind: events.count(kind) for kind in ("born", "merged", "split")}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print mean and spread over the seeds."""

    def spread(values: Iterator[float]) -> str:
        found = np.array(list(values))
        return f"{found.mean():.3f} ± {found.std():.3f}"

    names, ways = list(rows[0]["anew"]), [way for way in WAYS if way in rows[0]]
    table = Table("", *(Column(name, justify="right") for name in names))
    for way in ways:
        table.add_row(way, *(spread(row[way][name] for row in rows) for name in names))
    Console(width=120).print(table)
    print(f"old, on day 1: {spread(row['old, day 1'] for row in rows)}")
    for row in rows:
        print(row)


if __name__ == "__main__":
    sys.exit(main())
