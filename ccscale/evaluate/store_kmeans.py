"""``ccscale kmeans``: clusters a feature store; a table of keys and clusters, the centres, and scores by labels."""

from pathlib import Path
from typing import Any

import numpy as np

from ccscale import atomic, dist
from ccscale.device import pick_device
from ccscale.evaluate.store_table import label_figures, summary, write_clusters
from ccscale.evaluate.table import check_table_path
from ccscale.features.kmeans import k_means
from ccscale.features.store import open_features
from ccscale.features.vectors import Vectors
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment


def cluster_store(
    store: str | Path,
    clusters: int,
    *,
    spherical: bool = False,
    view: int | None = 0,
    seeds: int = 1,
    first_seed: int = 0,
    splits: list[str] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
) -> dict[str, Any] | None:
    """Cluster a store's features by k-means, from several seeds; all ranks call it together.

    Parameters
    ----------
    store : str or Path
        The store's folder.
    clusters : int
        K.
    spherical : bool, default False
        Scale features and centres to length 1.
    view : int, optional
        Which view; None for the mean of all views, each scaled to length 1.
    seeds, first_seed : int
        How many seeds, from which on.
    splits : list of str, optional
        All by default.
    out : str or Path, optional
        A .parquet or .csv file for ``key``, ``cluster`` and ``distance`` of the seed of the lowest inertia; its
        centres go into ``.centres.npy`` beside it.
    device : str, default "auto"
        See ``train.device``.

    Returns
    -------
    dict or None
        On rank 0: ``images``, ``clusters``, ``spherical``, ``seeds`` (each with ``inertia``, ``passes`` and, where
        all is labelled, ``acc``, ``nmi``, ``ari``), ``seed`` of the lowest inertia, how evenly its clusters are
        ``use``d, and ``out``. None elsewhere.

    Raises
    ------
    InputError
        If the store or the table's folder is not there, or there are fewer images than clusters.
    """
    env = RankEnvironment.read()
    chosen = pick_device(device, env.local_rank)
    with process_group(env, chosen):
        features = dist.together(lambda: open_features(store, splits))
        if out is not None:
            dist.on_rank_zero(lambda: check_table_path(Path(out)))
        vectors = Vectors.of_store(features, view)
        rows, found = [], []
        for seed in range(first_seed, first_seed + seeds):
            means = k_means(vectors, clusters, seed, spherical=spherical, device=chosen, show=True)
            rows.append({"seed": seed, "inertia": means.inertia, "passes": means.passes})
            rows[-1] |= label_figures(means.clusters, features.labels[vectors.numbers], clusters)
            found.append(means)
        if dist.rank():
            return None
    best = min(range(len(rows)), key=lambda number: rows[number]["inertia"])
    means, table = found[best], None if out is None else Path(out)
    if table is not None:
        write_clusters(table, features, vectors.numbers, means.clusters, distance=means.distances)
        with atomic.replacing(centres_path(table)) as file:
            np.save(file, means.centres)
    told = summary(features, rows, best, means.clusters, clusters, table)
    return {"store": str(store), "spherical": spherical, "view": view} | told


def centres_path(path: Path) -> Path:
    """Return where the centres go that belong to a table."""
    return path.with_name(f"{path.stem}.centres.npy")
