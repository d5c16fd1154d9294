"""The first names of living clusters: those of the network's clusters."""

from pathlib import Path

from ccscale.clusters.version import NetworkBasis
from ccscale.evaluate.cluster_names import LIVING, ClusterNames
from ccscale.evaluate.naming import resolve_names


def carry_names(clusters: Path, basis: NetworkBasis, k: int) -> None:
    """Give the first living clusters the names of the network's clusters, set by hand or by given labels."""
    known = resolve_names(clusters.parent, basis.weights, basis.head, k)
    if known.names is None:
        return
    names = known.by_hand or ClusterNames(LIVING)
    for cluster, name in enumerate(known.by_labels.names if known.by_labels else ()):
        if name is not None and cluster not in names.clusters:
            names = names.named(cluster, name)
    names.living().save(clusters)
