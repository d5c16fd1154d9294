"""``ccscale demo``: scikit-learn's handwritten digits, from files to clusters, in minutes on two cores.

The labels are used for scoring only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccscale.config.file import load_config
from ccscale.config.recipes import FOLDER
from ccscale.data.conversion.shards import make_shards
from ccscale.data.images.whole import whole_image
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.kinds import open_source
from ccscale.draw.gallery import draw_gallery
from ccscale.evaluate.evaluate import TABLE, evaluate_run
from ccscale.evaluate.metrics import scores
from ccscale.evaluate.probes import k_means
from ccscale.evaluate.table import read_table
from ccscale.progress import say

RECIPE = "digits"
PICTURE = "clusters.png"


def demo(out: Path, overrides: Sequence[str] = ()) -> dict[str, Any] | None:
    """Make shards of the digits, train on them, evaluate, draw the clusters and write the report.

    Parameters
    ----------
    out
        Folder for shards, run and picture. What is there already is continued.
    overrides
        ``key=value`` settings over those of the config, as ``seed=1``.

    Returns
    -------
    dict or None
        ``scores`` of the cluster head, of k-means on its features and of k-means on the pixels,
        ``picture``, the path of a PNG, and ``report``, that of an HTML file; None if training was asked to stop.

    Raises
    ------
    InputError
        If the folder holds something else.
    """
    from ccscale.report.report import report_run
    from ccscale.train.train import train_run

    shards, run = out / "shards", out / "run"
    if not (shards / "dataset.json").exists():
        say(f"1/5 writing the digits as shards to {shards}")
        make_shards(open_source("digits"), shards)
    config = load_config(FOLDER / f"{RECIPE}.yaml", [f"data.shards={shards}", f"run={run}", *overrides])
    say(f"2/5 training for {config.train.epochs} epochs, without labels; the run is kept in {run}")
    if not train_run(config).finished:
        return None
    say("3/5 measuring the clusters")
    result = evaluate_run(run)
    if result is None:  # another rank than the first
        return None
    manifest = Manifest.load(shards)
    reader = SampleReader(manifest, config.data.splits)
    say("4/5 drawing the clusters")
    found = read_table(run / TABLE)
    k = result["clusters"]
    columns = found.clusters, found.confidence, found.labels
    draw_gallery(out / PICTURE, reader, *columns, k, manifest.classes)
    say("5/5 writing the report")
    report = report_run(run)
    pixels = np.stack([whole_image(reader[i].data, 8)[..., 0].ravel() for i in range(len(reader))])
    of_pixels = scores(k_means(pixels, k), found.labels, k)
    rows = {"cluster head": result, "k-means on features": result["k_means"], "k-means on pixels": of_pixels}
    return {
        "scores": {
            title: {name: row[name] for name in ("acc", "nmi", "ari", "f")} for title, row in rows.items()
        },
        "seed": config.seed,
        "run": str(run),
        "picture": str(out / PICTURE),
        "report": report["out"],
    }
