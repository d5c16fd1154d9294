"""``ccscale turtle``: clusters feature stores of the same images; a table of keys and clusters, and scores by
labels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.evaluate.store_table import label_figures, summary, write_clusters
from ccscale.evaluate.table import check_table_path
from ccscale.features.store import open_features
from ccscale.features.turtle import BATCH, GAMMA, STEPS, turtle
from ccscale.features.turtle_state import Keeper
from ccscale.features.vectors import Vectors
from ccscale.rank_environment import RankEnvironment


def turtle_stores(
    stores: Sequence[str],
    clusters: int,
    *,
    steps: int = STEPS,
    batch: int = BATCH,
    gamma: float = GAMMA,
    seeds: int = 1,
    first_seed: int = 0,
    splits: list[str] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Cluster the images of one or several stores by TURTLE, from several seeds.

    Parameters
    ----------
    stores
        Their folders; each is a feature space of the same images.
    clusters, steps, batch, gamma
        As for `turtle`.
    seeds, first_seed
        How many seeds, from which on.
    splits
        All by default.
    out
        A .parquet or .csv file for ``key``, ``cluster`` and ``confidence`` of the seed of the lowest loss. Until it
        is there, how far each seed has come is kept beside it: the same call goes on after a kill.
    device
        See ``train.device``.

    Returns
    -------
    dict
        ``images``, ``clusters``, ``seeds`` (each with ``loss`` and, where there are labels, ``acc``, ``nmi``,
        ``ari``), ``seed`` of the lowest loss, how evenly its clusters are ``use``d, and ``out``.

    Raises
    ------
    InputError
        If a store or the table's folder is not there, the stores are not of the same images, or there are fewer
        images than clusters.
    """
    env = RankEnvironment.read()
    if env.world > 1:
        raise InputError("`ccscale turtle` runs in one process: start it without a launcher")
    opened = [open_features(store, splits) for store in stores]
    first = opened[0]
    for other in opened[1:]:
        if not other.keys.equals(first.keys):
            raise InputError(f"{other.folder} is not of the images of {first.folder}: embed the same shards")
    if out is not None:
        check_table_path(Path(out))
    good = np.flatnonzero(~np.logical_or.reduce([features.bad for features in opened]))
    vectors = [replace(Vectors.of_store(features), numbers=good) for features in opened]
    where, rows, found = pick_device(device, env.local_rank), [], []
    options = {"steps": steps, "batch": batch, "gamma": gamma}
    of = repr([[features.digest for features in opened], clusters, options, where.type])
    keepers = [] if out is None else [_keeper(Path(out), of, first_seed + number) for number in range(seeds)]
    for number, seed in enumerate(range(first_seed, first_seed + seeds)):
        keeper = keepers[number] if keepers else None
        labels = turtle(
            vectors,
            clusters,
            seed,
            steps=steps,
            batch=batch,
            gamma=gamma,
            device=where,
            keeper=keeper,
            show=True,
        )
        rows.append({"seed": seed, "loss": labels.loss})
        rows[-1] |= label_figures(labels.clusters, first.labels[good], clusters)
        found.append(labels)
    best = min(range(len(rows)), key=lambda number: rows[number]["loss"])
    labels, table = found[best], None if out is None else Path(out)
    if table is not None:
        write_clusters(table, first, good, labels.clusters, confidence=labels.confidence)
        for keeper in keepers:
            keeper.path.unlink(missing_ok=True)
    return {"stores": list(stores)} | summary(first, rows, best, labels.clusters, clusters, table)


def _keeper(out: Path, search: str, seed: int) -> Keeper:
    """Return what keeps how far a seed's search has come, beside the table."""
    digest = hashlib.sha256(f"{search} {seed}".encode()).hexdigest()
    return Keeper(out.with_name(f"{out.name}.seed-{seed}"), digest)
