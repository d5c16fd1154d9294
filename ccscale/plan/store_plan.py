"""Estimates the cost of k-means and neighbour search on a feature store on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.features.store import open_features
from ccscale.features.vectors import Vectors
from ccscale.plan.k_means_cost import KMeansCost, k_means_cost
from ccscale.plan.neighbour_cost import NeighbourCost, neighbour_cost
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment


@dataclass(frozen=True)
class StorePlan:
    """Estimated cost of one process that has the machine to itself.

    Attributes
    ----------
    store, rows, width
        The store, its rows with features, and their width.
    device
        Where distances are computed.
    k_means, neighbours
        What each takes; None where it was not asked for.
    """

    store: str
    rows: int
    width: int
    device: str
    k_means: KMeansCost | None
    neighbours: NeighbourCost | None

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object; bytes and seconds."""
        costs = {"k_means": self.k_means, "neighbours": self.neighbours}
        told = {name: None if cost is None else cost.as_json() for name, cost in costs.items()}
        return {"store": self.store, "rows": self.rows, "width": self.width, "device": self.device} | told


def plan_store(
    store: str | Path,
    clusters: int | None = None,
    neighbours: int | None = None,
    *,
    spherical: bool = False,
    view: int | None = 0,
    splits: list[str] | None = None,
    device: str = "auto",
) -> StorePlan:
    """Measure parts of the work on a store, and tell what the whole will take. Nothing is written.

    Parameters
    ----------
    store
        The store's folder.
    clusters, spherical, splits
        As for `cluster_store`; None: no k-means.
    neighbours
        As for `find_neighbours`, of all splits; None: none are searched for.
    view
        As for both.
    device
        See ``train.device``.

    Raises
    ------
    InputError
        If neither is asked for, it is no store, or it has too few rows.
    """
    if clusters is None and neighbours is None:
        raise InputError("say what is to be planned: --clusters K for k-means, --neighbours K, or both")
    where, features = pick_device(device), open_features(store, splits)
    vectors, means, near = Vectors.of_store(features, view), None, None
    # As the work itself, each in a group of its own: memory that is freed is kept, and given back at its end.
    if clusters is not None:
        with process_group(RankEnvironment(), where):
            means = k_means_cost(vectors, clusters, spherical, where)
    if neighbours is not None:
        with process_group(RankEnvironment(), where):
            near = neighbour_cost(Vectors.of_store(features.whole, view), neighbours, where)
    return StorePlan(str(store), len(vectors), vectors.width, str(where), means, near)
