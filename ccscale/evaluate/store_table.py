"""Results of clustering a feature store with several seeds: figures, and a table with one row per image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ccscale.array_types import Int64
from ccscale.evaluate.metrics import scores, use
from ccscale.evaluate.table import GROUP_ROWS, write_table
from ccscale.features.store import Features

FIGURES = ("acc", "nmi", "ari")


def label_figures(clusters: Int64, labels: Int64, k: int) -> dict[str, float]:
    """Return what labels tell of the images that have one; nothing where none has."""
    known = labels >= 0
    if not known.any():
        return {}
    found = scores(clusters[known], labels[known], k)
    return {name: found[name] for name in FIGURES}


def summary(
    features: Features, seeds: list[dict[str, Any]], best: int, clusters: Int64, k: int, out: Path | None
) -> dict[str, Any]:
    """Return the figures of all seeds.

    Parameters
    ----------
    features
        The store.
    seeds
        A row of figures each.
    best
        Which of them counts.
    clusters
        Those that it has found, of the images that are not bad.
    k
        K.
    out
        The table, if it was written.

    Returns
    -------
    dict
        ``images``, ``bad``, ``clusters``, ``seeds``, ``seed`` that counts, how evenly its clusters are ``use``d,
        ``out``.
    """
    return {
        "images": len(clusters),
        "bad": features.rows - len(clusters),
        "clusters": k,
        "seeds": seeds,
        "seed": seeds[best]["seed"],
        "use": use(np.bincount(clusters, minlength=k)),
        "out": None if out is None else str(out),
    }


def write_clusters(
    path: Path,
    features: Features,
    numbers: Int64,
    clusters: Int64,
    **column: NDArray[np.float32],
) -> None:
    """Write ``key``, ``cluster`` and another column of each row of a store.

    Parameters
    ----------
    path
        A .parquet or .csv file.
    features
        The store.
    numbers
        The rows that have a cluster; the others are written with nothing but their key.
    clusters
        Theirs.
    column
        The other column's name and values, of the same rows.
    """
    ((name, values),) = column.items()
    of_all, others = np.full(features.rows, -1, np.int64), np.zeros(features.rows, np.float32)
    of_all[numbers], others[numbers] = clusters, values

    def tables() -> Iterator[pa.Table]:
        for start in range(0, features.rows, GROUP_ROWS):
            rows = slice(start, start + GROUP_ROWS)
            none = of_all[rows] < 0
            yield pa.table(
                {
                    "key": features.keys[rows],
                    "cluster": pa.array(of_all[rows], pa.int32(), mask=none),
                    name: pa.array(others[rows], pa.float32(), mask=none),
                }
            )

    write_table(path, tables())
