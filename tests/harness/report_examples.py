"""A made-up run for the report's tests: no training, pictures of one colour each."""

import numpy as np
import pyarrow as pa

from ccscale.evaluate.reliability_scores import reliability_scores
from ccscale.evaluate.table import Assignments
from ccscale.report.inputs import Inputs, Points

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">'&amp;"
TRIED = list(range(2, 17))
ADVICE = {
    "sentence": "about 7 clusters, between 4 and 12; the range is wide: by stability there are few, large groups",
    "clusters": 7,
    "low": 4,
    "high": 12,
    "seen": True,
    "images": 400,
    "features": "backbone",
    "tried": TRIED,
    "votes": [
        {
            "criterion": name,
            "clusters": vote,
            "sees": True,
            "values": [1 - abs(k - vote) / 20 for k in TRIED],
            "null": [0.3 - k / 100 for k in TRIED],
        }
        for name, vote in (("stability", 4), ("coding", 12))
    ],
    "heads": [{"clusters": 5, "stability": 0.8}, {"clusters": 12, "stability": 0.7}],
    "heads_vote": 5,
}
CLASSES = ("cat", HOSTILE, "a rather long name of a class")


def example(seed=0, clusters=12, images=400, labels=True, seconds=True, features=True, **changes) -> Inputs:
    """Return a run whose last cluster is empty, and whose first image has no cluster."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, clusters - 1, images)
    centres = np.random.default_rng(9).normal(size=(clusters, 16))
    confidence = rng.uniform(0.5, 1, images).astype(np.float32)
    known = np.where(rng.random(images) < 0.8, of % 3, rng.integers(-1, 3, images))
    shown = np.arange(0, images, 2)
    table = Assignments(
        pa.array([f"{HOSTILE}{i}" if i == 1 else f"key-{i:04d}" for i in range(images)]),
        np.where(np.arange(images) == 0, -1, of),
        np.where(np.arange(images) == 0, 0, confidence).astype(np.float32),
        known if labels else np.full(images, -1),
        (of + 1) % clusters if seconds else None,
        (confidence * rng.uniform(0.1, 0.9, images)).astype(np.float32) if seconds else None,
        pa.array([f"=photos/{i}.jpg" for i in range(images)]) if seconds else None,
    )
    spread = centres[of[shown]] * 3 + rng.normal(size=(len(shown), 16))
    metrics = [
        {
            "kind": "step",
            "step": i,
            "loss": 8 / i,
            "instance_loss": 5 / i,
            "cluster_loss": 3 / i,
            "images_per_second": 90,
        }
        for i in range(1, 21)
    ] + [{"kind": "evaluation", "step": i, "acc": i / 40, "effective_clusters": i / 2} for i in (10, 20)]
    given = {
        "name": f"runs/example{seed}",
        "facts": (("Data", "made up"), ("Backbone", "none"), ("Checkpoint", "step 20"), ("Seed", str(seed))),
        "shards": "nowhere",
        "clusters": clusters,
        "classes": CLASSES if labels else (),
        "table": table,
        "points": Points(shown, spread.astype(np.float16)) if features else None,
        "metrics": metrics,
        "evaluation": {"trust": reliability_scores(confidence, confidence**2, known == of % 3)}
        if labels
        else {},
    }
    return Inputs(**given | changes)


def draw(samples, side, tick):
    """Return a plain tile for each sample, whose red tells its number."""
    tiles = np.zeros((len(samples), side, side, 3), dtype=np.uint8)
    tiles[..., 0] = (samples % 256)[:, None, None]
    tick(len(samples))
    return tiles
