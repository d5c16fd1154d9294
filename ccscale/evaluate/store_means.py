"""k-means over a feature store: a table of keys and clusters, the centres, and how good they are by labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ccscale import atomic, dist
from ccscale.device import pick_device
from ccscale.evaluate.metrics import scores, use
from ccscale.evaluate.table import GROUP_ROWS, check_table_path, write_table
from ccscale.features.kmeans import Means, k_means
from ccscale.features.store import Features, open_features
from ccscale.features.vectors import Vectors
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

FIGURES = ("acc", "nmi", "ari")


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
        As the config's ``train.device``.

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
            rows[-1] |= _figures(means, features.labels[vectors.numbers], clusters)
            found.append(means)
        if dist.rank():
            return None
    best = min(range(len(rows)), key=lambda number: rows[number]["inertia"])
    if out is not None:
        _write(Path(out), features, vectors, found[best])
    return {
        "store": str(store),
        "images": len(vectors),
        "bad": features.rows - len(vectors),
        "clusters": clusters,
        "spherical": spherical,
        "view": view,
        "seeds": rows,
        "seed": rows[best]["seed"],
        "use": use(np.bincount(found[best].clusters, minlength=clusters)),
        "out": None if out is None else str(out),
    }


def _figures(means: Means, labels: np.ndarray, clusters: int) -> dict[str, float]:
    """Return what labels tell of the images that have one; nothing where none has."""
    known = labels >= 0
    if not known.any():
        return {}
    found = scores(means.clusters[known], labels[known], clusters)
    return {name: found[name] for name in FIGURES}


def _write(path: Path, features: Features, vectors: Vectors, means: Means) -> None:
    """Write the table, with nothing but its key for a row that is bad, and the centres."""
    clusters = np.full(features.rows, -1, np.int64)
    distances = np.zeros(features.rows, np.float32)
    clusters[vectors.numbers], distances[vectors.numbers] = means.clusters, means.distances

    def tables() -> Iterator[pa.Table]:
        for start in range(0, features.rows, GROUP_ROWS):
            rows = slice(start, start + GROUP_ROWS)
            none = clusters[rows] < 0
            yield pa.table(
                {
                    "key": features.keys[rows],
                    "cluster": pa.array(clusters[rows], pa.int32(), mask=none),
                    "distance": pa.array(distances[rows], pa.float32(), mask=none),
                }
            )

    write_table(path, tables())
    with atomic.replacing(centres_path(path)) as file:
        np.save(file, means.centres)


def centres_path(path: Path) -> Path:
    """Return where the centres go that belong to a table."""
    return path.with_name(f"{path.stem}.centres.npy")
