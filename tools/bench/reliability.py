"""Measures how far a run's confidences can be trusted, and what it leaves without a cluster.

    python tools/bench/reliability.py RUN [--labels 100 300] [--draws 20] [--coverage .95] [--others DIR:SPLIT ...]

The run's own images have labels. Told is

    ece         expected calibration error (15 bins): of the confidence as it is; calibrated by pairs of looks
                alone; by so many labels besides, drawn at random, on the images that are left: mean, deviation and
                worst of the draws; and, for comparison, by one temperature for all logits, by the same labels
    accuracy    of all images, and of the surest 80 %
    answered    of the images of other shards, whatever they show, the share that keeps a cluster where --coverage
                of images like the run's own are to; how many are too far; and ece and accuracy, where they have the
                run's classes; calibrated is by the first draw of the most labels

Nothing of the run's folder is changed.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ccscale.evaluate.assign import assign
from ccscale.evaluate.calibration import Calibration
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.given_labels import GivenLabels, name_clusters
from ccscale.evaluate.heads import of_heads
from ccscale.evaluate.matching import one_to_one
from ccscale.evaluate.opened_run import OpenedRun, open_own_data, open_run, open_shards
from ccscale.evaluate.rejection import RejectionModel
from ccscale.evaluate.reliability import assign_features
from ccscale.evaluate.reliability_scores import accuracy_at_coverage, calibration_error
from ccscale.evaluate.stability import view_pairs

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

SURE = 0.8  # of the images


class Own:
    """The run's own images: their soft assignments, labels and features, and pairs of looks at some."""

    def __init__(self, opened: OpenedRun) -> None:
        network, config = opened.network, opened.config
        manifest, splits, features = open_own_data(config, None)
        data = network, manifest, splits, config
        looks = view_pairs(*data, features=features)
        assert looks is not None
        self.pairs = of_heads(looks, config.model)[network.serving]
        found = list(assign(*data, workers=opened.workers, features=features))
        self.p = np.concatenate([one.outputs.assignments.float().cpu().numpy() for one in found])
        self.labels = np.concatenate([one.batch.labels for one in found])
        self.classes, self.k, self.seed = manifest.class_ids, network.k, config.seed
        self.clusters, self.confidence = self.p.argmax(axis=1), self.p.max(axis=1)
        self.matched = one_to_one(Contingency.of(self.clusters, self.labels, self.k))
        self.right = self.matched[self.clusters] == self.labels
        if features is None:
            vectors = np.concatenate([one.outputs.features.float().cpu().numpy() for one in found])
            chosen = vectors[RejectionModel.choose(len(vectors), self.seed)]
        else:
            chosen = features.take(RejectionModel.choose(features.rows, self.seed))
        self.rejection = RejectionModel.fit(chosen, assign_features(network, chosen)[1])

    def draw(self, labels: int, seed: int) -> tuple[Calibration, float, float]:
        """Calibrate by labels drawn at random; return the map, and the errors on the rest by it, by temperature."""
        rows = np.random.default_rng((self.seed, seed)).choice(len(self.labels), labels, replace=False)
        keys = pa.array([str(row) for row in range(len(self.labels))])
        given = GivenLabels(keys.take(rows), tuple(str(label) for label in self.labels[rows]))
        named = name_clusters(given, keys, self.clusters, self.confidence, self.k)
        found = Calibration.fit(self.pairs, named.confidence, named.right)
        rest = np.setdiff1d(np.arange(len(self.labels)), rows)
        tempered = self.tempered(named.rows, named.right)
        errors = [
            calibration_error(one[rest], self.right[rest]) for one in (found(self.confidence), tempered)
        ]
        return found, errors[0], errors[1]

    def tempered(self, rows: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return confidences by the temperature that makes those of some rows likeliest."""
        logits = np.log(np.maximum(self.p.astype(np.float64), 1e-38))

        def confidence(chosen: Any, logarithm: float) -> NDArray[np.float64]:
            p = np.exp((logits[chosen] - logits[chosen].max(axis=1, keepdims=True)) / np.exp(logarithm))
            return 1 / p.sum(axis=1)

        def surprise(logarithm: float) -> float:
            sure = np.clip(confidence(rows, logarithm), 1e-6, 1 - 1e-6)
            return float(-np.mean(np.where(right, np.log(sure), np.log(1 - sure))))

        best = minimize_scalar(surprise, bounds=(-3, 3), method="bounded").x
        return confidence(slice(None), float(best))


def look_at(
    opened: OpenedRun, own: Own, others: str, coverage: float, calibration: Calibration
) -> dict[str, Any]:
    """Tell what becomes of the images of other shards."""
    root, _, split = others.rpartition(":")
    manifest, splits = open_shards(root, [split])
    found = list(assign(opened.network, manifest, splits, opened.config, workers=opened.workers))
    features = np.concatenate([one.outputs.features.float().cpu().numpy() for one in found])
    confidence = np.concatenate([one.confidence for one in found])
    far, doubt = own.rejection.rank(features, confidence)
    limit = own.rejection.limit(coverage)
    told: dict[str, Any] = {
        "images": len(far),
        "answered": float(np.mean(np.maximum(far, doubt) <= limit)),
        "too_far": float(np.mean(far > limit)),
    }
    if manifest.class_ids == own.classes:
        clusters = np.concatenate([one.clusters for one in found])
        right = own.matched[clusters] == np.concatenate([one.batch.labels for one in found])
        told |= {
            "ece": calibration_error(confidence, right),
            "ece_calibrated": calibration_error(calibration(confidence), right),
            "accuracy": accuracy_at_coverage(confidence, right, (1.0, SURE)),
        }
    return told


def measure(run: str, labels: list[int], draws: int, coverage: float, others: list[str]) -> dict[str, Any]:
    """Measure all of it."""
    with open_run(run) as opened:
        own = Own(opened)
        pairs = Calibration.fit(own.pairs)
        told: dict[str, Any] = {
            "images": len(own.labels),
            "accuracy": accuracy_at_coverage(own.confidence, own.right, (1.0, SURE)),
            "ece": calibration_error(own.confidence, own.right),
            "ece_by_pairs": calibration_error(pairs(own.confidence), own.right),
            "by_labels": {},
            "others": {},
        }
        calibration = pairs
        for number in labels:
            drawn = [own.draw(number, seed) for seed in range(draws)]
            calibration = drawn[0][0]
            told["by_labels"][str(number)] = {
                "ece": _spread([error for _, error, _ in drawn]),
                "ece_by_temperature": _spread([error for _, _, error in drawn]),
            }
        for one in others:
            told["others"][one] = look_at(opened, own, one, coverage, calibration)
    return told


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "deviation": float(np.std(values)), "worst": max(values)}


def show(told: dict[str, Any]) -> None:
    """Print what was found."""
    whole, sure = told["accuracy"]
    print(f"{told['images']:,} images, right: {whole:.3f}, of the surest {SURE:.0%}: {sure:.3f}")
    print(f"ece as it is {told['ece']:.3f}, by pairs of looks {told['ece_by_pairs']:.3f}")
    for number, by in told["by_labels"].items():
        ours, theirs = by["ece"], by["ece_by_temperature"]
        print(
            f"by {number} labels {ours['mean']:.3f} ± {ours['deviation']:.3f}, at worst {ours['worst']:.3f}; "
            f"by a temperature {theirs['mean']:.3f} ± {theirs['deviation']:.3f}"
        )
    for name, of in told["others"].items():
        print(
            f"{name}: {of['images']:,} images, {of['answered']:.1%} answered, {of['too_far']:.1%} too far",
            end="",
        )
        if "ece" not in of:
            print()
            continue
        whole, sure = of["accuracy"]
        print(f"; ece {of['ece']:.3f}, calibrated {of['ece_calibrated']:.3f}", end="")
        print(f"; right {whole:.3f}, of the surest {SURE:.0%} {sure:.3f}")


def main() -> int:
    """Run the tool."""
    made = parser(__doc__)
    made.add_argument("run")
    made.add_argument("--labels", type=int, nargs="*", default=[100, 300])
    made.add_argument("--draws", type=int, default=20)
    made.add_argument("--coverage", type=float, default=0.95)
    made.add_argument("--others", nargs="*", default=[], metavar="DIR:SPLIT")
    args = made.parse_args()
    tell(measure(args.run, args.labels, args.draws, args.coverage, args.others), args.json, show)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
