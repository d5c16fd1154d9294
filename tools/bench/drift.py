#!/usr/bin/env python
"""Plants drift into days of living clusters, and counts alarms; and days on which there is nothing new.

    python tools/bench/drift.py SHARDS OTHER [--kept DIR] [--size 128] [--weights NAME] [--first 8] [--images 300]
        [--day 400] [--shares .1 .2 1] [--seeds 0 1 2] [--times 20]

SHARDS has labels; they choose the classes and measure, and nothing else. Of each seed a run is trained on IMAGES
of each of FIRST classes, in an order of the seed's own; the other images of these classes are what days are drawn
from, TIMES each: of nothing new, and with a share of their images blurred, without colour, or from OTHER. Features
are kept in DIR, and taken from there. Of what is planted no alarm counts that names the clusters' shares alone.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ccscale.clusters.drift import ALARM, CHANCE, Reference
from ccscale.config import Model
from ccscale.features.store import open_features

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from first_day import Known, Network
from planted import CHANGES, features_of
from sample_store import write_rows
from tool import exit_code, parser, tell

CLEAN, *BEFALLEN = CHANGES
OTHERS = "of other data"


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("shards", metavar="SHARDS", help="with labels")
    options.add_argument("other", metavar="OTHER", help="other shards")
    options.add_argument("--split", default="train", help="of both (default: %(default)s)")
    options.add_argument("--kept", type=Path, metavar="DIR", help="where features are kept")
    options.add_argument("--backbone", default="tf_efficientnet_lite0", help="(default: %(default)s)")
    options.add_argument("--weights", default="efficientnet-lite0", help="(default: %(default)s)")
    for name, number in (("size", 128), ("first", 8), ("images", 300), ("day", 400), ("times", 20)):
        options.add_argument(f"--{name}", type=int, default=number)
    options.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2, 1.0])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = options.parse_args()

    def measure() -> int:
        with tempfile.TemporaryDirectory() as folder:
            kept = args.kept or Path(folder)
            kept.mkdir(exist_ok=True)
            weights = None if args.weights == "random" else args.weights
            model = Model(backbone=args.backbone, weights=weights, normalize=True, clusters=2)
            of = args.split, model, args.size
            own = features_of(args.shards, *of, kept / "own.npz", [*CHANGES])
            other = features_of(args.other, *of, kept / "other.npz", [CLEAN], 4 * args.day)
            rows = []
            for seed in args.seeds:
                place = Path(folder) / f"seed-{seed}"
                place.mkdir()
                rows += (found := Planted(args, own, other[CLEAN], seed, place).figures())
                print(*found, sep="\n", file=sys.stderr, flush=True)
        tell(rows, args.json, show)
        return 0

    return exit_code(measure)


class Planted:
    """The run of a seed, and the days that are drawn."""

    def __init__(
        self, args: Any, own: dict[str, NDArray[Any]], other: NDArray[np.float32], seed: int, folder: Path
    ) -> None:
        draw, labels = np.random.default_rng(1_000 + seed), own["labels"]
        classes = draw.permutation(np.unique(labels[labels >= 0]))[: args.first]
        rows = [draw.permutation(np.flatnonzero(labels == one)) for one in classes]
        first = np.concatenate([of_class[: args.images] for of_class in rows])
        self.seed, self.args = seed, args
        self.left = np.concatenate([of_class[args.images :] for of_class in rows])
        store = folder / "all"
        keys = [str(row) for row in range(len(labels))]
        write_rows(store, [own[CLEAN]], keys, labels, labels < -1, f"{seed:064d}")
        network = Network.trained(open_features(store), first, args.first, seed, folder / "run", [])
        self.features = {name: own[name] for name in CHANGES} | {OTHERS: other}
        self.told = {name: network.answers(rows) for name, rows in self.features.items()}
        heads, sure = (of_all[first] for of_all in self.told[CLEAN])
        self.known = Known.founded(own[CLEAN][first], heads, sure, first, args.first, seed)
        kept = self.known.reservoir.refs
        heads, sure = self.told[CLEAN]
        self.usual = Reference.of(self.known.state, self.known.reservoir, heads[kept], sure[kept])

    def figures(self) -> list[dict[str, Any]]:
        """Return what days of each kind bring."""
        kinds = [(CLEAN, 0.0)] + [(name, share) for name in (*BEFALLEN, OTHERS) for share in self.args.shares]
        return [self.days(kind, share) for kind, share in kinds]

    def days(self, kind: str, share: float) -> dict[str, Any]:
        """Return what so many days with a share of some kind bring."""
        drawn = [self.day(kind, share, number) for number in range(self.args.times)]
        measured = [drift for drift, _ in drawn]
        proposed = [proposal.kind for _, proposals in drawn for proposal in proposals]
        beside = [self.alarms(one) - {"sizes"} if share else self.alarms(one) for one in measured]
        return {
            "seed": self.seed,
            "planted": kind,
            "share": share,
            "days": len(drawn),
            "alarms": sum(map(bool, beside)),
            **{f"by {name}": sum(name in one for one in beside) for name in ALARM},
            **{name: float(np.mean([one.get(name, 0) for one in measured])) for name in ALARM},
            **{one: proposed.count(one) for one in ("birth", "merge", "split")},
        }

    @staticmethod
    def alarms(drift: dict[str, Any]) -> set[str]:
        """Return which shifts raise an alarm."""
        return {
            name
            for name, least in ALARM.items()
            if drift.get(f"{name}_chance", 1) <= CHANCE and drift[name] >= least
        }

    def day(self, kind: str, share: float, number: int) -> tuple[dict[str, Any], Any]:
        """Draw a day; return its drift, and what is proposed."""
        draw, size = np.random.default_rng([self.seed, number]), self.args.day
        rows = np.sort(draw.choice(self.left, size, replace=False))
        strange = draw.random(size).argsort() < round(share * size)
        at = draw.choice(len(self.features[kind]), size, replace=False) if kind == OTHERS else rows
        features = np.where(strange[:, None], self.features[kind][at], self.features[CLEAN][rows])
        told, usual = self.told[kind], self.told[CLEAN]
        heads = np.where(strange, told[0][at], usual[0][rows])
        sure = np.where(strange, told[1][at], usual[1][rows])
        _, answers, proposals = self.known.day(features, heads, sure, rows)
        return self.usual.measure(features, heads, sure, answers, number), proposals


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a row for each kind and share, over all seeds."""
    names = [name for name in rows[0] if name not in ("seed", "planted", "share")]
    table = Table("planted", "share", *names)
    for key in dict.fromkeys((row["planted"], row["share"]) for row in rows):
        same = [row for row in rows if (row["planted"], row["share"]) == key]
        cells = [np.array([row[name] for row in same]) for name in names]
        of_all = [f"{one.mean():.3f}" if one.dtype.kind == "f" else f"{one.sum()}" for one in cells]
        table.add_row(key[0], f"{key[1]:.0%}", *of_all)
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
