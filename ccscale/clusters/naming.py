"""``ccscale name RUN`` of a run with living clusters: names belong to ids, and hold at every version."""

from pathlib import Path

from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.version import NetworkBasis
from ccscale.evaluate.cluster_names import LIVING, ClusterNames
from ccscale.evaluate.naming import Called, Changes, called, changed


def name_living(run: str | Path, changes: Changes) -> Called:
    """Say something of living clusters, or nothing; return what is said of them then.

    The first ids were the network's clusters, and are called alike: what is said of them is kept in the run's own
    file, too, for `predict` and reports. So a file of a report's page, of the network's clusters, names ids.

    Parameters
    ----------
    run
        The run's folder.
    changes
        What is to be said.

    Raises
    ------
    InputError
        If it has no living clusters, or the changes contradict themselves or are of other clusters.
    """
    lineage = open_lineage(run)
    first = lineage.chain()[0]
    found, ids = ClusterNames.load(lineage.folder), lineage.newest().next_id
    if changes:
        given = None if changes.file is None else ClusterNames.read(changes.file)
        if given is not None and given.is_of(first.basis.weights, first.basis.head):
            found, changes = given.living(), changes.without_file()
        found = changed(found or ClusterNames(LIVING), LIVING, changes, ids)
        found.save(lineage.folder)
        before = ClusterNames.load(lineage.run)
        if before is None or before.is_of(first.basis.weights, first.basis.head):
            found.within(first.next_id, first.basis.model_dump()).save(lineage.run)
    return Called(ids, found, ids=lineage.state().clusters.tolist())


def carry_names(clusters: Path, basis: NetworkBasis, k: int) -> None:
    """Call the first living clusters as the network's are called, by hand or by given labels.

    Parameters
    ----------
    clusters
        Their folder.
    basis, k
        The network, and its number of clusters.
    """
    known = called(clusters.parent, basis.weights, basis.head, k)
    if known.names is None:
        return
    names = known.by_hand or ClusterNames(LIVING)
    for cluster, name in enumerate(known.by_labels.names if known.by_labels else ()):
        if name is not None and cluster not in names.clusters:
            names = names.named(cluster, name)
    names.living().save(clusters)
